"""What a plugin does not have is refused in a sentence, and what it has is left alone."""

from concurrent import futures
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from toolchain.plugins.refusal import refuse_unsupported


@refuse_unsupported(language_pb2_grpc.LanguageRuntimeServicer, "the host of this test")
class Host(language_pb2_grpc.LanguageRuntimeServicer):
    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return plugin_pb2.PluginInfo(version="1")


def test_what_is_missing_is_refused_by_name() -> None:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Host(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            host = language_pb2_grpc.LanguageRuntimeStub(channel)
            assert host.GetPluginInfo(empty_pb2.Empty()).version == "1"
            for call in (
                lambda: host.GenerateProgram(language_pb2.GenerateProgramRequest()),
                # Answers in parts.
                lambda: list(host.RunPlugin(language_pb2.RunPluginRequest())),
            ):
                with pytest.raises(grpc.RpcError) as refused:
                    call()
                error: Any = refused.value
                assert error.code() is grpc.StatusCode.UNIMPLEMENTED
                assert error.details().startswith("the host of this test does not support ")
                assert "DDS_MODE=ordinary" in error.details()
    finally:
        server.stop(None).wait()
