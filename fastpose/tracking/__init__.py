"""Who is who from frame to frame, and poses that do not tremble: arrays in, arrays out.

Nothing here knows files, frames or networks; times are seconds, and may lie unevenly.
"""

from ..ops.assign import assign
from .live_smoother import LiveSmoother
from .offline import smooth_offline
from .pose_tracker import PoseTracker

__all__ = ["LiveSmoother", "PoseTracker", "assign", "smooth_offline"]
