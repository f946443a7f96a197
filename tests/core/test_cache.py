"""Cached folders: their keys stay the same, and they are whole or not there."""

import threading

import pytest

from distill.core.cache import USERS, cache_key, file_lock, get_or_create


def test_keys_of_earlier_versions_stay_valid():
    assert cache_key(kind="outputs", split="train") == "eb6ea003d5f5605e5c32"
    assert cache_key(split="train", kind="outputs") == "eb6ea003d5f5605e5c32"
    assert cache_key(kind="fine_tuned", text="ä", seed=0, parts=[1, None, 0.5]) == (
        "228f8dc8fbded290aad5"
    )
    assert cache_key(kind="outputs", split="test") != cache_key(kind="outputs", split="train")


def test_a_folder_is_created_once(tmp_path):
    folder, calls = tmp_path / "deep" / "made", []

    def create(target):
        calls.append(target)
        (target / "file").write_text("content")

    assert not get_or_create(folder, create)
    assert get_or_create(folder, create)
    assert len(calls) == 1
    assert (folder / "file").read_text() == "content"
    assert not folder.with_name("made.partial").exists()


def test_an_interrupted_attempt_is_continued(tmp_path):
    folder = tmp_path / "made"

    def interrupted(target):
        (target / "first").write_text("1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get_or_create(folder, interrupted)
    assert not folder.exists()

    def create(target):
        assert (target / "first").read_text() == "1"
        (target / "second").write_text("2")

    assert not get_or_create(folder, create)
    names = {file.name for file in folder.iterdir()}
    assert names == {"first", "second", "checksums.json", USERS}


def test_concurrent_runs_create_it_once(tmp_path):
    folder, calls, existed = tmp_path / "made", [], []

    def run():
        existed.append(get_or_create(folder, lambda target: calls.append(target)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert sorted(existed) == [False, True, True, True]


def test_the_lock_is_beside_the_path_and_released(tmp_path):
    path = tmp_path / "new" / "thing"
    for _ in range(2):
        with file_lock(path):
            assert path.with_name("thing.lock").exists()


def test_a_process_that_waits_says_for_what(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("distill.core.cache.WAIT_WITHOUT_NOTICE", 0.05)
    caplog.set_level("INFO")
    path, taken, free = tmp_path / "thing", threading.Event(), threading.Event()

    def hold():
        with file_lock(path):
            taken.set()
            free.wait()

    def wait():
        with file_lock(path):
            pass

    threads = [threading.Thread(target=hold)]
    threads[0].start()
    taken.wait()
    threads.append(threading.Thread(target=wait))
    threads[1].start()
    while not caplog.text:
        threads[1].join(0.01)
    free.set()
    for thread in threads:
        thread.join()
    assert f"another process is making {path}" in caplog.text
