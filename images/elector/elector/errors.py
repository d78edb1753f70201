"""What can go wrong between a candidate and the store."""


class StoreError(Exception):
    """The store did not answer in time, or not with sense: what was asked may have happened."""


class RefusedError(Exception):
    """The store understood and refused; nothing has happened."""

    def __init__(self, status: int, code: int, message: str) -> None:
        """Keep what the store said.

        :param status: HTTP status
        :param code: the store's own code, 0 where it has none
        """
        super().__init__(f"{status}/{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
