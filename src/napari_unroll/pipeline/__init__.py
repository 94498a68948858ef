"""From choices to a plan to events: the one way in which work is started."""
