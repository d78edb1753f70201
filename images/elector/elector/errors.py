"""Errors of requests to the store."""


class StoreError(Exception):
    """No valid response in time: the request may have succeeded."""


class RefusedError(Exception):
    """The store refused the request, which had no effect."""

    def __init__(self, status: int, code: int, message: str) -> None:
        """Keep the details of the response.

        :param status: HTTP status
        :param code: the store's own code, 0 where it has none
        """
        super().__init__(f"{status}/{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
