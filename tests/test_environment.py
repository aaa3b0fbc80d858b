import pytest

from ddbench import environment


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("rded", "rded"),
        ("1,10", "1,10"),
        ("/home/me/registry", "registry"),
        ("folder:/home/me/photos", "folder:photos"),
        ("folder:/home/me/a,npz:~/b.npz,digits", "folder:a,npz:b.npz,digits"),
        ("method.backbone=/models/sd", "method.backbone=sd"),
        ("--plugin=../mine.py", "--plugin=mine.py"),
    ],
)
def test_a_recorded_command_names_no_folder(monkeypatch, argument, shown):
    monkeypatch.setattr("sys.argv", ["/usr/bin/ddbench", "run", argument])
    assert environment.describe.__wrapped__()["command"] == f"ddbench run {shown}"


def test_the_number_of_threads_is_recorded(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment.describe.__wrapped__()["threads"] == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert environment.describe.__wrapped__()["threads"] == environment.os.cpu_count()
