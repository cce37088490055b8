"""What can be asked of the API, each operation once, by subject.

How a function that returns a `Call` becomes a method of both clients stands in `orchnb.api.calls`.
Names and arguments are those of Prefect's client.
"""

from orchnb.api.operations.flow_runs import FlowRunOperations
from orchnb.api.operations.flows import FlowOperations
from orchnb.api.operations.server import ServerOperations


class Operations(ServerOperations, FlowOperations, FlowRunOperations):
    """What both clients can do."""
