"""What is set wins in order: what is said, the environment, the config file, the defaults."""

from pathlib import Path

import pytest

from bestiary.errors import InputError
from bestiary.hub.settings import Settings, parse_size


def config(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return path


def test_defaults(tmp_path: Path) -> None:
    settings = Settings.read({}, config=tmp_path / "none.toml")
    assert settings.home.is_absolute() and settings.home.name == "bestiary"
    assert (settings.cards, settings.offline, settings.mirrors, settings.cache_limit) == ((), False, (), None)


def test_the_config_file(tmp_path: Path) -> None:
    path = config(tmp_path, """
        home = "store"
        cards = ["/srv/cards", "more"]
        offline = true
        mirrors = ["https://models.example/", "usb"]
        cache_limit = "20GB"
    """)
    assert Settings.read({}, config=path) == Settings(
        home=tmp_path / "store",
        cards=(Path("/srv/cards"), tmp_path / "more"),
        offline=True,
        mirrors=("https://models.example/", str(tmp_path / "usb")),
        cache_limit=20_000_000_000,
    )


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    environment = {
        "BESTIARY_HOME": "~/store",
        "BESTIARY_CARDS": "/srv/cards::more",
        "BESTIARY_OFFLINE": "1",
        "BESTIARY_MIRRORS": "http://127.0.0.1:8000/x, /media/usb,",
        "BESTIARY_CACHE_LIMIT": "1.5 GiB",
    }
    assert Settings.read(environment, config=tmp_path / "none.toml") == Settings(
        home=Path("/home/somebody/store"),
        cards=(Path("/srv/cards"), tmp_path / "more"),
        offline=True,
        mirrors=("http://127.0.0.1:8000/x", "/media/usb"),
        cache_limit=3 * 2**29,
    )


def test_what_wins(tmp_path: Path) -> None:
    path = config(tmp_path, 'home = "/file"\noffline = true\ncache_limit = 1\n')
    environment = {"BESTIARY_HOME": "/environment", "BESTIARY_OFFLINE": "", "BESTIARY_CACHE_LIMIT": "2"}
    settings = Settings.read(environment, config=path, home="/said", offline=None)
    assert (settings.home, settings.offline, settings.cache_limit) == (Path("/said"), True, 2)
    assert Settings.read({"BESTIARY_OFFLINE": "no"}, config=path).offline is False


def test_the_config_file_is_looked_for_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bestiary"
    folder.mkdir()
    config(folder, 'home = "/from/the/file"')
    monkeypatch.setattr("platformdirs.user_config_path", lambda name, appauthor: tmp_path / name)
    monkeypatch.setenv("BESTIARY_OFFLINE", "1")
    monkeypatch.delenv("BESTIARY_HOME")
    assert Settings.read() == Settings(home=Path("/from/the/file"), offline=True)


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("0", 0), ("4096", 4096), ("20GB", 20 * 10**9), ("512 MiB", 2**29), ("1.5g", 1_500_000_000), ("2k", 2000), ("1TB", 10**12),
     (" 7 b ", 7), ("1KiB", 1024)],
)
def test_sizes(text: str, bytes_: int) -> None:
    assert parse_size(text) == bytes_


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "20 gigabytes", "1PB", "∞", "nan", "1" * 30, "٣", "1.", "1 2"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="such as 20GB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "problem", "expected"),
    [
        ("home = 1", "home: 1 cannot be used", "a folder"),
        ('home = ""', "home: '' cannot be used", "a folder"),
        ('home = "~no-such-user/x"', "home: '~no-such-user/x' cannot be used", "home"),
        ('cards = "/srv"', "cards: '/srv' cannot be used", "a list of folders"),
        ("cards = [1]", "cards: [1] cannot be used", "a folder"),
        ('offline = "perhaps"', "offline: 'perhaps' cannot be used", "true or false"),
        ("offline = 1", "offline: 1 cannot be used", "true or false"),
        ('mirrors = ["http://models.example/"]', "mirrors: ['http://models.example/'] cannot be used", "https://"),
        ('mirrors = ["https://me:secret@models.example/"]', "mirrors:", "https://"),
        ('cache_limit = "much"', "cache_limit: 'much' cannot be used", "20GB"),
        ("cache_limit = true", "cache_limit: True cannot be used", "20GB"),
        ("cache_limit = -1", "cache_limit: -1 cannot be used", "20GB"),
        ("hoem = 1", "'hoem': no such key", "home, cards, offline, mirrors, cache_limit"),
        ("home =", "not valid TOML", "correct it"),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, problem: str, expected: str) -> None:
    path = config(tmp_path, text)
    with pytest.raises(InputError) as caught:
        Settings.read({}, config=path)
    what, then = str(caught.value).splitlines()
    assert what.startswith(f"{path}: {problem}")
    assert expected in then


def test_an_error_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BESTIARY_CACHE_LIMIT: 'all' cannot be used\nexpected: bytes"):
        Settings.read({"BESTIARY_CACHE_LIMIT": "all"}, config=tmp_path / "none.toml")


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["not UTF-8", "a folder"])
def test_a_config_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"config\.toml: the config file cannot be read"):
        Settings.read({}, config=path)


def test_a_setting_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="hoem"):
        Settings.read({}, config=tmp_path / "none.toml", hoem="/x")
