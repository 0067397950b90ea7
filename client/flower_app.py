"""Flower's handlers of a site: one translation for every message that the protocol knows, and no decision."""

from collections.abc import Callable

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from sarco_models import wire
from sarco_models.wire import Reply

Answered = Callable[[Message, Context], tuple[Reply, str]]


def app_of(answered: Answered) -> ClientApp:
    """A ClientApp whose every handler gives what ``answered`` finds: a reply, and the head of the audit log."""
    app = ClientApp()

    def respond(message: Message, context: Context) -> Message:
        reply, head = answered(message, context)
        return wire.answer(reply, message, head)

    for action in ("describe", "setup", "keys", "reveal"):
        app.query(action)(respond)
    app.train()(respond)
    app.evaluate()(respond)
    app.evaluate("assess")(respond)
    app.evaluate("measure")(respond)
    app.evaluate("probe")(respond)
    return app
