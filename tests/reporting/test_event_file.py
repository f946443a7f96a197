"""Event files: points that are repeated are removed before, and nothing else is."""

from distill.reporting.event_file import EventFile, drop_steps_from
from tests.factories import curves


def steps(folder, tag="train/loss"):
    events = curves(folder)
    return [event.step for event in events.Scalars(tag)] if tag in events.Tags()["scalars"] else []


def write(folder, suffix, numbers, tag="train/loss"):
    with EventFile(folder, suffix) as file:
        for number in numbers:
            file.add_scalar(tag, float(number), number)


def test_points_of_a_step_and_later_ones_go(tmp_path):
    write(tmp_path, ".student", range(10))
    write(tmp_path, ".teacher", range(10), "train/loss/teacher")
    drop_steps_from(tmp_path, ".student", 6)
    assert steps(tmp_path) == list(range(6))
    assert steps(tmp_path, "train/loss/teacher") == list(range(10))
    drop_steps_from(tmp_path, ".student", 0)
    assert not list(tmp_path.glob("*.student"))


def test_what_a_killed_process_left_half_written_goes(tmp_path):
    write(tmp_path, ".student", range(4))
    file = next(tmp_path.iterdir())
    whole = file.read_bytes()
    file.write_bytes(whole[:-3])
    drop_steps_from(tmp_path, ".student", 100)
    assert steps(tmp_path) == [0, 1, 2]
    file.write_bytes(whole + b"\0" * 40)
    drop_steps_from(tmp_path, ".student", 100)
    assert file.read_bytes() == whole


def test_files_that_have_a_suffix_are_replaced(tmp_path):
    for _ in range(2):
        write(tmp_path, ".final", [5], "final/accuracy")
    assert steps(tmp_path, "final/accuracy") == [5]
