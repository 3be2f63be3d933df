"""Served models: a server that speaks the Open Inference Protocol (KServe V2), asked over gRPC or HTTP."""
