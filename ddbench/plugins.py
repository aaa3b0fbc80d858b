"""The former name of ``ddbench.plugin.manager``, kept for scripts that load plugins by it."""

from ddbench.plugin.manager import Plugins, load_plugins

__all__ = ["Plugins", "load_plugins"]
