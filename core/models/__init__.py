"""What finished tasks leave behind: list, show, rename, delete."""
