"""A hospital's data looked at before a round is: every fault with its place and remedy, and a page that shows them."""
