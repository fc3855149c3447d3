"""vLLM: `worker` runs inside vLLM's workers, `capture` beside the engine. Written for vLLM 0.24."""
