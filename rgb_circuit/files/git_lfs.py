"""Files of a repository that was cloned without Git LFS: each is a few lines of text that stand for
it."""

from pathlib import Path

# Every pointer begins so, and is smaller than this.
BEGINS, SMALLER = b"version https://git-lfs.github.com/spec/", 1024


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer.

    Source: the Git LFS specification (docs/spec.md of its repository).
    """
    return path.stat().st_size < SMALLER and path.read_bytes().startswith(BEGINS)
