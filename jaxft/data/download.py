"""Downloads into the cache folder: checked by hash, stopped at their size, and moved into place only when whole.

The readers of data and weights call `fetch`. `requests` speaks HTTP; what is here resumes, bounds and checks transfers.
"""

import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
import urllib3
from filelock import FileLock
from tqdm.auto import tqdm

from jaxft.base.files import cache_folder
from jaxft.errors import InputError, reason_of

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # without a single byte
ANSWER_SECONDS = 60.0  # until the headers are there, after all redirections
SLOW_SECONDS, SLOWEST = 60.0, 1000  # a transfer ends that brings fewer bytes per second over so many seconds
LARGEST = 2**30  # bytes, where neither the caller nor the server tells the size
CHUNK = 2**16  # bytes
START = 2**20  # bytes that fastai's hashes are of
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Refused(requests.RequestException):
    """The server's answer is not the file; the message says why."""


class _Spoiled(_Refused):
    """As `_Refused`, and the partial file may hold wrong bytes."""


def fetch(url: str, known_hash: str, *, name: str, instead: str, size: int | None = None) -> Path:
    """The path of a file in the cache, downloaded first if it is missing or has another hash.

    A download that breaks off leaves `name`.part in the cache, and the next call downloads the rest. Of a file whose
    start alone has a published hash, `name`.sha256 keeps the hash of the first download, which later calls check.

    Args:
        url: address of the file.
        known_hash: hexadecimal sha256 or md5 of the file. With `size`, an md5 is that of the first 2**20 bytes, as
            fastai publishes it.
        name: name of the file in the cache.
        instead: what the user can do if the download fails, for the error message: a flag and a few words.
        size: size of the file in bytes, after which a download is stopped.

    Raises:
        InputError: there is no network, the server answers with an error or with something else, the transfer breaks
            off, the file has another hash (the partial file is then removed), or the cache folder cannot be written.
    """
    folder = cache_folder()
    path, part = folder / name, folder / f"{name}.part"
    try:
        if not _is_intact(path, known_hash, size):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{name}.lock", mode=0o666):  # it stays, because a waiting process holds it open
                if not _is_intact(path, known_hash, size):  # another process may have downloaded it meanwhile
                    _download(url, part, known_hash, size, instead)
                    _record_of(path).unlink(missing_ok=True)
                    os.replace(part, path)
        if not _is_of_whole(known_hash, size):
            _keep_record(path)
        return path
    except OSError as error:
        if error.errno in NO_ROOM:
            part.unlink(missing_ok=True)
            room = "some room" if size is None else f"{size / 1e6:.1f} MB"
            raise InputError(
                f"the cache folder {folder} has no room for {name} ({error.strerror}), and the part that was there is "
                f"removed: free {room}, or set JAXFT_CACHE to a folder on another disk"
            ) from error
        raise InputError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}): set JAXFT_CACHE to a writable "
            "folder"
        ) from error


def _is_intact(path: Path, known_hash: str, size: int | None) -> bool:
    """Whether a file is there, fits what is published, and is the one that was downloaded first."""
    if not (path.is_file() and _matches(path, known_hash, size)):
        return False
    record = _record_of(path)
    return not record.exists() or record.read_bytes() == _record_line(path)


def _record_of(path: Path) -> Path:
    """The file with the hash of a download, as sha256sum writes it."""
    return path.with_name(f"{path.name}.sha256")


def _record_line(path: Path) -> bytes:
    return f"{_digest(path, 'sha256')}  {path.name}\n".encode()


def _keep_record(path: Path) -> None:
    record = _record_of(path)
    if not record.exists():
        with suppress(OSError):  # a cache that is only read keeps none
            record.write_bytes(_record_line(path))


def _is_of_whole(known_hash: str, size: int | None) -> bool:
    return len(known_hash) == 64 or size is None


def _matches(path: Path, known_hash: str, size: int | None) -> bool:
    """Whether a file has the size and the hash that are published."""
    if size is not None and path.stat().st_size != size:
        return False
    if _is_of_whole(known_hash, size):
        return _digest(path, _algorithm(known_hash)) == known_hash
    with open(path, "rb") as file:
        return hashlib.md5(file.read(START)).hexdigest() == known_hash


def _algorithm(known_hash: str) -> str:
    return "sha256" if len(known_hash) == 64 else "md5"


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _download(url: str, part: Path, known_hash: str, size: int | None, instead: str) -> None:
    """Downloads the missing rest of a partial file, and the whole file where the parts do not fit together."""
    for start in dict.fromkeys((part.stat().st_size if part.exists() else 0, 0)):
        _download_from(start, url, part, size, instead)
        if _matches(part, known_hash, size):
            return
        part.unlink()
    raise InputError(
        f"{url} has another {_algorithm(known_hash)} hash than {known_hash} and was removed: run the command again, or "
        f"use {instead}"
    )


def _download_from(start: int, url: str, part: Path, size: int | None, instead: str) -> None:
    """Downloads a file from byte `start` on into a partial file."""
    # "identity" because the hash is of the bytes on the server
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with _answer(url, headers) as response:
            if start and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is missing; the hash shows whether the file on the server has changed
            response.raise_for_status()
            if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                start = 0  # the server sends the whole file
            _write(response, part, start, _promised_size(response, start, size))
        if size is not None and part.stat().st_size < size:
            raise urllib3.exceptions.ProtocolError("the connection was closed")
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        if isinstance(error, _Spoiled):
            part.unlink(missing_ok=True)
        kept = part.stat().st_size if part.exists() else 0
        retry = f"run the same command again to continue after {kept / 1e6:.1f} MB, or " if kept else ""
        raise InputError(f"cannot download {url} ({_reason(error)}): {retry}use {instead}") from error


def _answer(url: str, headers: dict[str, str]) -> requests.Response:
    """The answer to a request, with the body still to be read.

    The request waits in a thread, because its own time limits are for the time between two bytes.
    """
    answers: list[requests.Response] = []
    errors: list[Exception] = []
    given_up = threading.Event()

    def ask() -> None:
        try:
            timeout = (CONNECT_SECONDS, READ_SECONDS)
            answers.append(requests.get(url, headers=headers, stream=True, timeout=timeout))
        except Exception as error:
            errors.append(error)
        if given_up.is_set():
            close()

    def close() -> None:
        for answer in answers:
            answer.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if errors and isinstance(errors[0], OSError) and not isinstance(errors[0], requests.RequestException):
        raise requests.RequestException(reason_of(errors[0])) from errors[0]  # of a file of certificates
    if errors:
        raise errors[0]
    if not answers:
        given_up.set()
        close()  # what came in this moment
        raise requests.ReadTimeout
    return answers[0]


def _promised_size(response: requests.Response, start: int, size: int | None) -> int | None:
    """The size of the file by `size` or else by the answer, None where neither tells it.

    Raises:
        _Refused: the answer is a web page, another part than was asked for, or a file of another size.
    """
    if response.headers.get("Content-Type", "").strip().lower().startswith("text/html"):
        raise _Refused("the server sends a web page instead of the file, as a network with a login page does")
    place = response.headers.get("Content-Range")
    is_part = response.status_code == HTTPStatus.PARTIAL_CONTENT
    if is_part and place is not None and not place.strip().startswith(f"bytes {start}-"):
        raise _Spoiled("the server sends another part of the file than was asked for")
    rest = response.raw.length_remaining
    if None not in (size, rest) and start + rest != size:
        raise _Refused(f"the server's file has {start + rest:,} bytes instead of {size:,}")
    return size if size is not None or rest is None else start + rest


def _write(response: requests.Response, part: Path, start: int, size: int | None) -> None:
    """Writes a response to a partial file from byte `start` on, with a progress bar.

    Raises:
        _Spoiled: the server sends more than `size` bytes.
    """
    limit = LARGEST if size is None else size
    with (
        open(part, "ab" if start else "wb") as file,
        tqdm(
            desc=f"Downloading {part.stem}",
            initial=start,
            total=size,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
        ) as progress,
    ):
        for chunk in _arriving(response):
            start += len(chunk)
            if start > limit:
                raise _Spoiled(f"the server sends more than the {limit:,} bytes of the file")
            file.write(chunk)
            progress.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _arriving(response: requests.Response) -> Iterator[bytes]:
    """The body of a response as it arrives; undecoded, because some servers declare the compression of a .gz file as an
    encoding to remove.

    Raises:
        ReadTimeout: it arrives too slowly.
    """
    read: Callable[..., bytes] = response.raw.read1
    since, count = time.monotonic(), 0
    while chunk := read(CHUNK, decode_content=False):
        yield chunk
        count += len(chunk)
        seconds = time.monotonic() - since
        if seconds > SLOW_SECONDS:
            if count < SLOWEST * seconds:
                raise requests.Timeout
            since, count = time.monotonic(), 0


def _reason(error: Any) -> str:
    """The reason why a download failed, in a few words."""
    match error:
        case requests.HTTPError(response=requests.Response(status_code=status)):
            phrases = {known.value: f" {known.phrase}" for known in HTTPStatus}
            return f"the server answers {status}{phrases.get(status, '')}"
        case requests.ConnectTimeout() | requests.ReadTimeout() | urllib3.exceptions.TimeoutError():
            return "the server does not answer"
        case requests.Timeout():
            return f"the server sends fewer than {SLOWEST:,} bytes per second"
        case requests.TooManyRedirects():
            return "the server redirects again and again"
        case requests.exceptions.InvalidProxyURL():
            return "the address of the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is none"
        case requests.exceptions.InvalidSchema() if "SOCKS" in str(error):
            return "the proxy is one of SOCKS, which needs pip install PySocks"
        case requests.exceptions.InvalidSchema() | requests.exceptions.InvalidURL():
            return "the server redirects to an address that is not one of HTTP"
        case requests.exceptions.SSLError():
            return "its certificate cannot be checked"
        case requests.exceptions.ProxyError():
            return "the proxy refuses it"
        case requests.ConnectionError(args=[urllib3.exceptions.MaxRetryError(reason=cause), *_]) if isinstance(
            cause, urllib3.exceptions.NameResolutionError
        ):
            return "its name cannot be looked up, so there is probably no network"
        case requests.ConnectionError(args=[urllib3.exceptions.ProtocolError(), *_]):
            return "the server closes the connection, or its answer is not one of HTTP"
        case requests.ConnectionError():
            return "no connection to the server"
        case urllib3.exceptions.HTTPError():
            return "the transfer broke off"
        case _:
            return reason_of(error)
