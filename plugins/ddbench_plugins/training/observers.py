"""Where teachers were before they had a package of their own: plugins written then are told."""

raise ImportError("get_teacher is in ddbench_plugins.teachers.observers now")
