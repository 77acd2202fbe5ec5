"""Moving pictures: `open_video` gives the frames of files, folders, cameras and streams; `VideoWriter` makes files."""

from .frames import Frame, VideoError
from .sources import is_video, open_video
from .video import Video
from .writer import VideoWriter

__all__ = ["Frame", "Video", "VideoError", "VideoWriter", "is_video", "open_video"]
