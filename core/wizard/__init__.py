"""The conversation: drafts, neutral screens, steps, and the one function that turns an event into the next screen."""
