"""What this package registers; the method itself is imported when a run needs it."""

from ddbench import MethodSpec, hookimpl


@hookimpl
def ddbench_methods():
    """Return the methods of this package."""
    return [
        MethodSpec(
            "hello-means",
            "ddbench_hello.means:Means",
            summary="averages of random groups of training images",
            paper="An example, not a paper",
        )
    ]
