"""What a hospital's probe of the released model may say, held against what the hospital said of itself.

An empty sentence means that nothing is wrong; see :mod:`server.replies`.
"""

import math

from sarco_models.wire import Probed
from server.members import Member


def probe_fault(reply: Probed, site: Member, *, rounded: bool = False) -> str:
    """What is wrong with a site's answer to :class:`sarco_models.messages.Probe`.

    Args:
        reply: of the site.
        site: as it described itself.
        rounded: in a private study the numbers come in steps, which no number of people gives.
    """
    held_out = site.participants - site.training
    if reply.site != site.site:
        return f"answers in the name of {reply.site[:80]}"
    if reply.members != site.training or not 2 <= reply.others <= held_out:
        return (
            f"probed {reply.members} and {reply.others} people; described itself with {site.training} in training and "
            f"{held_out} others"
        )
    if not all(math.isfinite(v) and 0 <= v <= 1 for v in (reply.auc, reply.tpr)):
        return f"an AUC of {reply.auc:g} and a share of {reply.tpr:g}; both are from 0 to 1"
    pairs, found = 2 * reply.auc * reply.members * reply.others, reply.tpr * reply.members
    whole = all(abs(v - round(v)) < 1e-3 for v in (pairs, found))
    return "" if whole or rounded else "its numbers are not those of so many people"
