"""The published study's tables and figures with this project's numbers beside them."""

from server.paper.page import write_paper

__all__ = ["write_paper"]
