"""Models on the Hugging Face hub: their addresses, downloads into its cache, uploads.

`huggingface_hub` does the work. It is imported at the first use, so that nobody else needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from segkit.errors import UserError

SCHEME = "hf://"
REPOSITORY = r"[\w.-]+/[\w.-]+"
_ADDRESS = re.compile(rf"{SCHEME}(?P<repo>{REPOSITORY})(@(?P<revision>[^/]+))?(/(?P<file>.+))?")

Source = str | Path  # where a model is: an address on the hub, or a path


class Address(NamedTuple):
    """A place on the hub, written `hf://user/model@revision/file`; the last two may lack."""

    repo: str
    revision: str | None
    file: str | None


def is_address(source: Source) -> bool:
    """Return whether a model is named by its address on the hub."""
    return str(source).startswith(SCHEME)


def parse_address(text: Source) -> Address:
    """Read an address.

    >>> parse_address("hf://user/model@v1")
    Address(repo='user/model', revision='v1', file=None)
    """
    found = _ADDRESS.fullmatch(str(text))
    if found is None:
        raise UserError(
            f"{text} is no address on the hub; write hf://user/model, or hf://user/model@revision"
        )
    return Address(found["repo"], found["revision"], found["file"])


def download(address: Address, files: Sequence[str]) -> Path:
    """Download files into the hub's cache, unless they are there.

    Offline, and where the hub cannot be reached, the cache is all there is.

    Returns:
        The folder that holds the files; all are of the same commit.

    Raises:
        UserError: no such repository, revision or file, or no way to it.
    """
    hub = _import_hub(f"{SCHEME}{address.repo}")
    folder, revision = Path(), address.revision
    for file in files:
        with _explained(address, file):
            path = Path(hub.hf_hub_download(address.repo, file, revision=revision))
        folder = path.parents[file.count("/")]
        revision = folder.name  # the commit: the branch may move between two files
    return folder


def create_repository(repo: str, private: bool) -> str:
    """Create a repository for a model, unless it is there, and return its address on the web.

    Raises:
        UserError: it cannot be written to, or it is public and should be private.
    """
    hub = _import_hub("segkit push")
    with _upload_explained(repo):
        url = hub.create_repo(repo, private=private, exist_ok=True)
        is_public = private and not hub.model_info(repo).private
    if is_public:
        raise UserError(
            f"{repo} exists and is public; make it private in its settings on the hub, or leave "
            "out --private"
        )
    return str(url)


def upload(folder: Path, repo: str) -> None:
    """Upload a folder as one commit to a repository that is there."""
    hub = _import_hub("segkit push")
    with _upload_explained(repo):
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload by segkit push")


def _import_hub(what: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError(f"{what} needs another package; pip install 'segkit[hub]'") from error
    return huggingface_hub


@contextmanager
def _explained(address: Address, file: str) -> Iterator[None]:
    """Turn whatever a download raises into one sentence."""
    from huggingface_hub.utils import (
        EntryNotFoundError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name = f"{SCHEME}{address.repo}" + (f"@{address.revision}" if address.revision else "")
    try:
        yield
    except RepositoryNotFoundError as error:  # also where one may not read it
        raise UserError(
            f"there is no model {address.repo} on the hub, or you may not read it; check the name, "
            "or log in by `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(
            f"{address.repo} has no revision {address.revision}; name a branch, a tag or a commit "
            "of it, or leave out @ and the rest"
        ) from error
    except LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, OfflineModeIsEnabled):
            raise UserError(
                f"{file} of {name} is not in the cache, and HF_HUB_OFFLINE forbids to download it; "
                "load it once without HF_HUB_OFFLINE"
            ) from error
        raise UserError(
            f"{file} of {name} is not in the cache, and the hub cannot be reached "
            f"({_reason(error.__cause__ or error)}); check the network, or name a local folder "
            "that holds the model"
        ) from error
    except EntryNotFoundError as error:
        raise UserError(
            f"{name} holds no {file}; name a model that `segkit push` uploaded or, for an "
            "encoder's weights, the file: hf://user/model/FILE.safetensors"
        ) from error
    except Exception as error:  # of requests, httpx or the disk: versions of the hub differ
        raise UserError(
            f"cannot download {file} of {name}: {_reason(error)}; try it again, or name a local "
            "folder that holds the model"
        ) from error


@contextmanager
def _upload_explained(repo: str) -> Iterator[None]:
    """Turn whatever an upload raises into one sentence."""
    from huggingface_hub.utils import HfHubHTTPError

    try:
        yield
    except Exception as error:  # of requests, httpx or the disk: versions of the hub differ
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        if status in (401, 403):
            remedy = "log in by `hf auth login` with a token that may write there"
        else:
            remedy = "check the name and the network, or keep the folder by --dry-run DIR"
        raise UserError(f"cannot push to {repo}: {_reason(error)}; {remedy}") from error


def _reason(error: BaseException) -> str:
    """Return the first line of an error, or its kind where it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
