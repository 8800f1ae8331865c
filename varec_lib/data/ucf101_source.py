"""UCF-101 from its publisher, from a mirror or from an archive at hand, into a folder that `load_manifest` reads."""

import http.client
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urljoin, urlsplit

from varec_lib.data.archive import rar_tools, unpack
from varec_lib.data.ucf101 import find_lists, videos_below
from varec_lib.download import download, file_hash, part_of, reason
from varec_lib.errors import ConfigError, DataError
from varec_lib.files import gigabytes, locked, write_text

PUBLISHER = "https://www.crcv.ucf.edu/data/UCF101/"
VIDEOS, LISTS = "UCF101.rar", "UCF101TrainTestSplits-RecognitionTask.zip"
HASHES = "sha256.txt"  # in the data set's folder, as `sha256sum -c` reads it


@dataclass(frozen=True)
class Published:
    """A file by whose name everyone means the same one."""

    url: str
    size: int | None  # in bytes
    sha256: str


# The publisher states neither sizes nor hashes. Those of the RAR archive are what its server reported to others, and
# what torchvision's prototype of this data set expects; the other two are from the checksums of TensorFlow Datasets.
PUBLISHED = {
    VIDEOS: Published(
        PUBLISHER + VIDEOS, 6_932_971_618, "ca8dfadb4c891cb11316f94d52b6b0ac2a11994e67a0cae227180cd160bd8e55"
    ),
    LISTS: Published(PUBLISHER + LISTS, 113_943, "5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27"),
    "UCF101_videos.zip": Published(  # the same videos, from the THUMOS challenge
        "https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
        6_960_400_115,
        "dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
    ),
}


def fetch_ucf101(root: Path, *, url: str = "", archive: Path | None = None, split: int = 1) -> None:
    """Puts the videos and the official lists of UCF-101 into `root`, unless they are there; then it asks no server.

    `url` is the address of another archive, `archive` one at hand; the lists are looked for beside it first. An earlier
    call that was killed is gone on with. Raises `DataError`, `ConfigError` or `OSError`.
    """
    videos = root / "UCF-101"
    if videos.is_dir() and find_lists(root, split):
        return
    if other := next(root.glob("*.csv"), None):
        raise DataError(f"{other}: {root} holds another dataset, which would be read instead. Choose another --root.")
    if archive and not archive.is_file():
        raise DataError(f"{archive}: no such file.")
    file = archive or root / _name(url or PUBLISHED[VIDEOS].url)
    if file.suffix.lower() == ".rar" and not videos.is_dir():
        rar_tools(file)  # before hours of downloading
    root.mkdir(parents=True, exist_ok=True)
    with locked(root / ".lock", f"Another process is at work in {root}: waiting for it ..."):
        lists = None
        if not find_lists(root, split):  # first, because these are small
            beside = archive and archive.with_name(LISTS)
            addresses = ([urljoin(url, LISTS)] if url else []) + [PUBLISHED[LISTS].url]
            lists = beside if beside and beside.is_file() else root / LISTS
            lists_hash = _checked(root, addresses, lists)
        if not videos.is_dir():
            digest = _checked(root, [url or PUBLISHED[VIDEOS].url], file)
            print(f"Unpacking {file} ({gigabytes(file.stat().st_size)}) ...", flush=True)
            unpack(file, videos, videos_below)
            _record(root, file, digest)  # not before it is known to hold videos
            print(f"{file} is not needed any more.")
        if lists:  # last, so that the folder is no dataset before
            unpack(lists, root / "ucfTrainTestlist", lambda folder: find_lists(folder, split))
            _record(root, lists, lists_hash)


def _name(url: str) -> str:
    """The name of the file at an address. Raises `ConfigError`."""
    parts = urlsplit(url)
    name = PureWindowsPath(unquote(parts.path)).name  # which knows both separators
    if parts.scheme not in ("http", "https") or not name.strip("."):
        raise ConfigError(f"--url {url}: must be the address of an archive, such as {PUBLISHED[VIDEOS].url}.")
    return name


def _checked(root: Path, urls: list[str], file: Path) -> str:
    """The SHA-256 of a file, downloaded from the first address that has it if it is not there; size and hash are right.

    Of one that is not published, the hash must be that of the first time.
    """
    known = PUBLISHED.get(file.name) or Published("", None, _recorded(root).get(file.name, ""))
    if not file.is_file():
        digest = _downloaded(urls, file, known)
    elif known.size not in (None, size := file.stat().st_size):
        raise DataError(f"{file}: has {size} bytes instead of {known.size}. Delete it, or rename it if it is another.")
    else:
        digest = file_hash(file)
    if not digest.startswith(known.sha256):
        source = "published" if known.size else f"in {root / HASHES}"
        advice = "" if known.size else f", or delete its line in {root / HASHES} if the archive has changed"
        raise DataError(
            f"{file}: its SHA-256 is {digest}, not the one {source}. Delete it, or rename it if it is another{advice}."
        )
    return digest


def _recorded(root: Path) -> dict[str, str]:
    """SHA-256 of the archives that were unpacked into a folder, by their names."""
    lines = (root / HASHES).read_text(encoding="utf-8").splitlines() if (root / HASHES).is_file() else []
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def _record(root: Path, file: Path, digest: str) -> None:
    recorded = _recorded(root)
    if file.name not in recorded:
        if file.name not in PUBLISHED:
            print(f"No SHA-256 of {file.name} is published. From now on this one must be right: {digest}")
        lines = {**recorded, file.name: digest}.items()
        write_text(root / HASHES, "".join(f"{digest}  {name}\n" for name, digest in lines))


def _downloaded(urls: list[str], file: Path, known: Published) -> str:
    """Downloads a file and returns its SHA-256. Raises `DataError` in one sentence."""
    for url in urls:
        size = f", {gigabytes(known.size)}," if known.size else ""
        have = f" (going on at {gigabytes(part_of(file).stat().st_size)})" if part_of(file).exists() else ""
        print(f"Downloading {file.name}{size} from {urlsplit(url).netloc} to {file.parent}{have}", flush=True)
        try:
            return download(url, file, known.sha256, known.size, copies=2)  # packed and unpacked
        except BrokenPipeError:  # nobody reads what is printed here
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            problem = error
            if url != urls[-1]:
                print(f"{url} could not be fetched ({reason(error)})", flush=True)
    raise DataError(
        f"{url} could not be fetched into {file.parent} ({reason(problem)}). Run the command again to go on, name a "
        f"mirror with --url, or fetch it elsewhere: --archive takes the videos, and {LISTS} is looked for beside them."
    ) from problem
