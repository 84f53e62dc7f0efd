"""The run's cells in object storage, through fsspec, for machines that share no disk: s3://, gs://, az://, file://.

The folder on each machine is then a copy of what it has seen. Names tell contents: a picture's follows from its
cell's key, a record's holds its hash, and `cell.json`, which makes a cell whole, goes up last. So nothing is ever
half there, and what was taken down is checked like any other file of the run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from eval.running.atomic import RunFolderError, make_folder, write_atomic
from sdkit._errors import InvalidRequest

LAST = ("images.json", "cell.json")
"""What changes when a cell is done again, in the order in which it goes up."""


@dataclass(frozen=True)
class Mirror:
    """One run's place in object storage."""

    files: Any
    """An fsspec file system."""
    place: str
    """The run's folder there."""

    def push(self, cell_folder: Path, fresh: Collection[str] = ()) -> None:
        """Take up what the storage lacks of a cell, and what is fresh, which it may hold damaged.

        Raises:
            RunFolderError: the storage refuses.
        """
        here = {name for name in _names(cell_folder) if name not in LAST}
        there = self._there(cell_folder.name)
        final = [name for name in LAST if (cell_folder / name).is_file()]
        starts = {_start(name) for name in here} - {""}
        try:
            for name in [*sorted((here - there) | (here & set(fresh))), *final]:
                self.files.pipe_file(self._path(cell_folder.name, name), (cell_folder / name).read_bytes())
            for name in there - here:
                if _start(name) in starts:  # a record that another has replaced
                    self.files.rm_file(self._path(cell_folder.name, name))
        except OSError as error:
            raise RunFolderError(f"cannot write to {self.place}: {error}") from error

    def pull(self, cell_folder: Path) -> None:
        """Bring down what this folder lacks of a cell. Raises RunFolderError where the storage refuses."""
        there = self._there(cell_folder.name)
        lacking = sorted(name for name in there if name not in LAST and not (cell_folder / name).is_file())
        final = [name for name in LAST if name in there and not (cell_folder / "cell.json").is_file()]
        for name in [*lacking, *final]:
            try:
                payload = self.files.cat_file(self._path(cell_folder.name, name))
            except FileNotFoundError:  # removed since it was listed
                continue
            except OSError as error:
                raise RunFolderError(f"cannot read from {self.place}: {error}") from error
            make_folder((cell_folder / name).parent)
            write_atomic(cell_folder / name, payload, sync_folder=name in LAST)

    def _there(self, key: str) -> set[str]:
        """Names of the cell's files in the storage, relative to its folder."""
        base = f"{self.place}/cells/{key}"
        try:
            found = self.files.find(base)
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise RunFolderError(f"cannot read from {self.place}: {error}") from error
        names = (str(PurePosixPath(path).relative_to(base)) for path in found)
        return {name for name in names if not PurePosixPath(name).name.startswith(".")}

    def _path(self, key: str, name: str) -> str:
        return f"{self.place}/cells/{key}/{name}"


def open_mirror(store: str | None, run: str) -> Mirror | None:
    """The run's place under a URL such as "s3://bucket/runs"; None where `store` is no URL.

    Raises:
        InvalidRequest: fsspec knows no such storage, or its client is not installed.
    """
    if store is None or "://" not in store:
        return None
    import fsspec

    try:
        options = {"auto_mkdir": True} if store.startswith("file://") else {}
        files, place = fsspec.core.url_to_fs(store, **options)
    except (ValueError, ImportError) as error:
        raise InvalidRequest(f"store={store} cannot be opened: {error}") from error
    return Mirror(files, f"{place.rstrip('/')}/{run}")


def _start(name: str) -> str:
    """Of which picture on a record is; "" for what is none."""
    return name.removeprefix("batches/").partition("-")[0] if name.startswith("batches/") else ""


def _names(cell_folder: Path) -> list[str]:
    """Files of a cell that others may need."""
    found = [path for path in cell_folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return [path.relative_to(cell_folder).as_posix() for path in found if path.name != "error.txt"]
