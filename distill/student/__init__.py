"""Student factories: architectures and initial weights of students."""
