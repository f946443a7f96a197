"""Students: how they are made and where their first weights come from."""
