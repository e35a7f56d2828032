"""Paths in a bucket are what paths of a disk are, as far as a bucket can."""

import itertools

import pytest
from etils import epath

from promot_jax import buckets, paths
from promot_jax.buckets import BucketPath
from promot_jax.errors import UserError
from promot_jax.hosts import write_atomically


@pytest.fixture
def root(bucket):
    return paths.as_path(bucket[1])


def test_what_it_is(root):
    assert isinstance(root, BucketPath) and isinstance(epath.Path(str(root)), BucketPath)
    assert str(root / "a" / "b").startswith("gs://bucket-") and (root / "a" / "b").key == "dir/a/b"
    assert (root / "a").parent == root and str(paths.as_path(f"{root}//a/")) == f"{root}/a"
    assert not paths.in_bucket(paths.as_path("/tmp/x")) and paths.in_bucket(root)


def test_directories_are_what_lies_in_them(root):
    assert not root.exists() and not root.is_dir()
    with pytest.raises(FileNotFoundError):
        next(root.iterdir())
    (root / "a" / "one [1] %41 é.txt").write_text("text")
    assert root.is_dir() and (root / "a").is_dir() and not (root / "a").is_file()
    assert [path.name for path in (root / "a").iterdir()] == ["one [1] %41 é.txt"]
    assert (root / "a" / "one [1] %41 é.txt").read_text() == "text"
    (root / "b").mkdir()
    (root / "b").mkdir(exist_ok=True)
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]
    assert list((root / "b").iterdir()) == [] and root.names() == ["a/one [1] %41 é.txt"]
    with pytest.raises(FileExistsError):
        (root / "b").mkdir()
    (root / "ab").write_text("begins like a directory, and is none of its files")
    (root / "a").rmtree()
    assert [path.name for path in root.iterdir()] == ["ab", "b"]


def test_more_than_one_page_of_names(root, bucket):
    for i in range(120):
        bucket[0].put(root.bucket, f"dir/{i}/x", b"")
    assert len(list(root.iterdir())) == 120
    assert {path.parent.name for path in root.glob("1?/*")} == {str(i) for i in range(10, 20)}


def test_files(root):
    path = root / "file"
    for read in (path.read_bytes, path.unlink, path.open):
        with pytest.raises(FileNotFoundError) as error:
            read()
        assert error.value.filename == str(path)
    path.unlink(missing_ok=True)
    with path.open("w") as file:
        file.write("one\n")
        assert not path.exists()  # whole or not at all
        file.flush()
        assert path.read_bytes() == b"one\n"
        file.write("two\n")
    with path.open("a") as file:
        file.write("three\n")
    assert path.open().readlines() == ["one\n", "two\n", "three\n"]
    with pytest.raises(KeyError), path.open("w") as file:
        file.write("broken off")
        raise KeyError
    assert path.open("rb").read() == b"one\ntwo\nthree\n"
    write_atomically(path, "")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 16, 20])
def test_a_copy_in_parts(root, tmp_path, monkeypatch, size):
    monkeypatch.setattr(buckets, "PART", 8)
    content = bytes(range(size))
    (root / "a").write_bytes(content)
    (root / "a").download(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == content
    before = (root / "a").version()
    assert (root / "a").version() == before
    (root / "a").write_bytes(content)
    assert size == 0 or (root / "a").version() != before
    with pytest.raises(FileNotFoundError):
        (root / "none").download(tmp_path / "b")
    assert (root / "none").version() is None


def test_only_if_nobody_else_has_written(root):
    path = root / "claim"
    content, none = path.read()
    assert content is None
    first = path.write_if(b"first", none)
    assert path.write_if(b"second", none) is None and path.read() == (b"first", first)
    second = path.write_if(b"second", first)
    assert path.write_if(None, first) is None and path.write_if(None, second) is not None
    assert not path.exists()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(buckets, "RETRIES", {"max_retries": 4, "initial_delay": "1ms"})
    buckets._open.cache_clear()
    yield
    buckets._open.cache_clear()


def test_what_fails_for_a_moment_is_tried_again(root, bucket, impatient):
    bad = itertools.cycle([503, 429, "drop", "lose", None, None])
    bucket[0].fault = lambda method, name: next(bad)
    (root / "a").write_bytes(b"content")
    assert (root / "a").read_bytes() == b"content" and len(list(root.iterdir())) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (403, "no permission with these"),
        (401, "credentials"),
        (503, "the bucket fails"),
        ("drop", "fails"),
    ],
)
def test_what_does_not_stop_failing_is_an_error_of_that_object(
    root, bucket, impatient, fault, says
):
    bucket[0].fault = lambda method, name: fault
    path = root / "a"
    asks = [path.read_bytes, path.exists, path.names, path.rmtree, path.unlink, path.mkdir]
    for ask in [*asks, lambda: path.write_bytes(b"")]:
        with pytest.raises(OSError, match=says) as error:
            ask()
        assert error.value.filename == str(root / "a")


def test_a_bucket_that_is_not_there():
    path = paths.as_path("gs://none-such/a")
    with pytest.raises(FileNotFoundError, match="no such bucket"):
        path.write_bytes(b"")
    with pytest.raises(FileNotFoundError):
        path.read_bytes()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://bucket/a", "only those of gs:// are known"),
        ("gs:///a", "'' is no name of a bucket"),
        ("gs://Bucket/a", "'Bucket' is no name of a bucket"),
        ("gs://bucket/a?b", "it has a '[?]'"),
        ("gs://bucket/a#b", "it has a '#'"),
        ("gs://bucket/a\\b", "it has a"),
        ("gs://bucket/../b", "in the place of a name"),
        (f"gs://bucket/{'a' * 701}", "too long"),
    ],
)
def test_what_is_no_path_in_a_bucket(url, says):
    with pytest.raises(UserError, match=f"WORKDIR: .*{says}"):
        paths.as_path(url, "WORKDIR")


def test_ways_from_one_directory_to_another():
    assert paths.way("gs://one/a/run", "gs://one/a/base") == "../base"
    assert paths.way("gs://one/run", "gs://two/base") == "../../two/base"
    assert paths.along("gs://three/b/run", "../base") == "gs://three/b/base"
    assert paths.way("gs://one/run", "/tmp/base") is None
    assert paths.way("/tmp/run", "/tmp/base") == "../base"
    assert paths.along("/tmp/x/run", "../base") == "/tmp/x/base"
    assert paths.real("gs://one/a//b/") == "gs://one/a/b"
