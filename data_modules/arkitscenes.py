"""The ARKitScenes data module."""

from data_modules.scenes import SceneDataModule


class ARKitScenesDataModule(SceneDataModule):
    """ARKitScenes photographs, with boxes in the camera's frame: recognition; see `SceneDataModule`."""
