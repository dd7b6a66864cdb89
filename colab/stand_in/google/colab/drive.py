"""Google Drive: a folder named by $SIMULATED_DRIVE; without one nobody consents to the mount."""

import os
from pathlib import Path


def mount(mountpoint: str) -> None:
    """Raises ValueError where nobody consents, as Colab does."""
    inside = Path(mountpoint) / "MyDrive"
    if inside.exists():
        print(f"Drive already mounted at {mountpoint}.")
        return
    if "SIMULATED_DRIVE" not in os.environ:
        raise ValueError("mount failed: nobody consented")
    inside.parent.mkdir()
    inside.symlink_to(os.environ["SIMULATED_DRIVE"], target_is_directory=True)
    print(f"Mounted at {mountpoint}")
