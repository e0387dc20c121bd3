"""What training does to a network: signals, gradients and updates of its layers, every so many steps."""

from pyinit.inspection.monitor.monitor import Monitor
from pyinit.inspection.monitor.records import Record

__all__ = ["Monitor", "Record"]
