"""Downloads into the cache folder: checked by hash, resumed after a break, and moved into place only when whole.

The readers of data and weights call `fetch`. pooch checks and moves; the downloader here adds resuming and time limits.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import pooch
import requests
import urllib3
from tqdm.auto import tqdm

from jaxft.errors import InputError
from jaxft.files import cache_folder

CONNECT_SECONDS = 10.0
READ_SECONDS = 30.0  # without a single byte
CHUNK = 2**16  # bytes


def fetch(url: str, md5: str, *, name: str, instead: str, size: int | None = None) -> Path:
    """The path of a file in the cache, downloaded first if it is missing or has another hash.

    A download that breaks off leaves `name`.part in the cache, and the next call downloads the rest.

    Args:
        url: address of the file.
        md5: hexadecimal hash of the file or, if `size` is given, of its first 2**20 bytes, as fastai publishes it.
        name: name of the file in the cache.
        instead: what the user can do if the download fails, for the error message: a flag and a few words.
        size: size of the file in bytes.

    Raises:
        InputError: there is no network, the server answers with an error, the transfer breaks off, the file has another
            hash (the partial file is then removed), or the cache folder cannot be written.
    """
    folder = cache_folder()
    part = folder / f"{name}.part"

    def download(url: str, output_file: str, _: object) -> None:
        _continue_download(url, part, instead)
        if size is not None and not _has_start(part, size, md5):
            part.unlink()
            raise ValueError("the start or the size")
        os.replace(part, output_file)  # pooch checks this file's hash and removes it where it is wrong

    downloader: Any = download  # pooch's type has other argument names
    pooch.get_logger().setLevel("WARNING")  # the progress bar replaces its messages
    try:
        if size is not None and (folder / name).exists() and not _has_start(folder / name, size, md5):
            (folder / name).unlink()
        known_hash = f"md5:{md5}" if size is None else None
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=downloader))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{url} has another md5 hash than {md5} and was removed: run the command again, or use {instead}"
        ) from error
    except OSError as error:
        raise InputError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}): set JAXFT_CACHE to a writable "
            "folder"
        ) from error


def _has_start(path: Path, size: int, md5: str) -> bool:
    """Whether a file has this size, and its first 2**20 bytes this hash."""
    with open(path, "rb") as file:
        return path.stat().st_size == size and hashlib.md5(file.read(2**20)).hexdigest() == md5


def _continue_download(url: str, part: Path, instead: str) -> None:
    """Downloads the missing rest of a partial file."""
    start = part.stat().st_size if part.exists() else 0
    # "identity" because the hash is of the bytes on the server
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as response:
            if start and response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # nothing is missing; the hash shows whether the file on the server has changed
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                start = 0  # the server sends the whole file
            _write(response, part, start)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        kept = part.stat().st_size if part.exists() else 0
        retry = f"run the same command again to continue after {kept / 1e6:.1f} MB, or " if kept else ""
        raise InputError(f"cannot download {url} ({_reason(error)}): {retry}use {instead}") from error


def _write(response: requests.Response, part: Path, start: int) -> None:
    """Writes a response to a partial file from byte `start` on, with a progress bar."""
    length = int(response.headers.get("Content-Length") or 0)
    with (
        open(part, "ab" if start else "wb") as file,
        tqdm(
            desc=f"Downloading {part.stem}",
            initial=start,
            total=start + length if length else None,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
        ) as progress,
    ):
        # undecoded, because some servers declare the compression of a .gz file as an encoding to remove
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            file.write(chunk)
            progress.update(len(chunk))


def _reason(error: Exception) -> str:
    """The reason why a download failed, in a few words."""
    match error:
        case requests.HTTPError(response=requests.Response(status_code=status, reason=reason)):
            return f"the server answers {status} {reason}"
        case requests.ConnectTimeout() | requests.ReadTimeout() | urllib3.exceptions.TimeoutError():
            return "the server does not answer"
        case requests.exceptions.SSLError():
            return "its certificate cannot be checked"
        case requests.exceptions.ProxyError():
            return "the proxy refuses it"
        case requests.ConnectionError(args=[urllib3.exceptions.MaxRetryError(reason=cause), *_]) if isinstance(
            cause, urllib3.exceptions.NameResolutionError
        ):
            return "its name cannot be looked up, so there is probably no network"
        case requests.ConnectionError():
            return "no connection to the server"
        case urllib3.exceptions.HTTPError():
            return "the transfer broke off"
        case _:
            return str(error)
