//! How much of everything peers may send, hold or leave behind: gateways, clients, workers, runners, the operator's
//! webhook. What has a setting elsewhere (`--max-…`, `--live-trickle-…`, `--peer-…`) is not here; lengths that the
//! network's protocol says are `penstock_wire`'s.

penstock_config::limits! {
    /// Bounds of what peers may cost.
    pub struct Limits {
        /// Headers of one request, all together. A payment of a hundred tickets travels in one.
        header_bytes: u32 = 256 << 10, 16_384..16_777_216,
        "limit-header-bytes", "PENSTOCK_LIMIT_HEADER_BYTES", "BYTES";
        /// Requests at once on one connection of HTTP/2.
        http2_streams: u32 = 200, 1..100_000,
        "limit-http2-streams", "PENSTOCK_LIMIT_HTTP2_STREAMS", "N";
        /// What waits in one stream of HTTP/2 for its peer to make room.
        http2_buffer_bytes: usize = 64 << 10, 1_024..16_777_216,
        "limit-http2-buffer-bytes", "PENSTOCK_LIMIT_HTTP2_BUFFER_BYTES", "BYTES";
        /// One gRPC request. It is decoded before it is known whose it is, and may then take a hundred times the memory.
        grpc_request_bytes: usize = penstock_wire::limits::GRPC_REQUEST_BYTES, 16_384..67_108_864,
        "limit-grpc-request-bytes", "PENSTOCK_LIMIT_GRPC_REQUEST_BYTES", "BYTES";
        /// One gRPC request to a redeemer (--redeemer).
        redeemer_request_bytes: usize = 16 << 10, 4_096..1_048_576,
        "limit-redeemer-request-bytes", "PENSTOCK_LIMIT_REDEEMER_REQUEST_BYTES", "BYTES";
        /// One segment, as a gateway sends it, as it is fetched, and each rendition of it.
        segment_bytes: u64 = penstock_wire::limits::SEGMENT_BYTES, 1_000..4_294_967_296,
        "limit-segment-bytes", "PENSTOCK_LIMIT_SEGMENT_BYTES", "BYTES";
        /// Segments of one session that wait while one is worked on.
        waiting_segments: usize = 4, 1..1_000,
        "limit-waiting-segments", "PENSTOCK_LIMIT_WAITING_SEGMENTS", "N";
        /// Results in memory of one rendition of a session; the oldest makes room.
        stored_files: usize = 12, 1..10_000,
        "limit-stored-files", "PENSTOCK_LIMIT_STORED_FILES", "N";
        /// Body of a request for other ticket parameters.
        refresh_body_bytes: u64 = 4_096, 1_024..1_048_576,
        "limit-refresh-body-bytes", "PENSTOCK_LIMIT_REFRESH_BODY_BYTES", "BYTES";
        /// JSON body of an AI request.
        ai_json_bytes: u64 = 8 << 20, 1_024..1_073_741_824,
        "limit-ai-json-bytes", "PENSTOCK_LIMIT_AI_JSON_BYTES", "BYTES";
        /// Fields of an AI request's form beside its file.
        ai_form_fields: usize = 32, 16..10_000,
        "limit-ai-form-fields", "PENSTOCK_LIMIT_AI_FORM_FIELDS", "N";
        /// One such field; a mask for segment-anything-2 is one.
        ai_form_text_bytes: usize = 4 << 20, 1_024..1_073_741_824,
        "limit-ai-form-text-bytes", "PENSTOCK_LIMIT_AI_FORM_TEXT_BYTES", "BYTES";
        /// Files of one AI answer.
        ai_result_files: usize = 64, 1..10_000,
        "limit-ai-result-files", "PENSTOCK_LIMIT_AI_RESULT_FILES", "N";
        /// JSON part of one AI answer, and a file inside it.
        ai_result_json_bytes: usize = 64 << 20, 1_024..1_073_741_824,
        "limit-ai-result-json-bytes", "PENSTOCK_LIMIT_AI_RESULT_JSON_BYTES", "BYTES";
        /// One piece of an AI answer in pieces.
        ai_piece_bytes: usize = 1 << 20, 1_024..67_108_864,
        "limit-ai-piece-bytes", "PENSTOCK_LIMIT_AI_PIECE_BYTES", "BYTES";
        /// Pieces of it that wait for the gateway.
        ai_waiting_pieces: usize = 16, 1..10_000,
        "limit-ai-waiting-pieces", "PENSTOCK_LIMIT_AI_WAITING_PIECES", "N";
        /// Longest time of an answer in pieces, in milliseconds.
        ai_stream_ms: u64 = 600_000, 1_000..86_400_000,
        "limit-ai-stream-ms", "PENSTOCK_LIMIT_AI_STREAM_MS", "MS";
        /// Words of a worker about a job that failed.
        worker_error_bytes: u64 = 8 << 10, 256..1_048_576,
        "limit-worker-error-bytes", "PENSTOCK_LIMIT_WORKER_ERROR_BYTES", "BYTES";
        /// Jobs and calls that wait for one worker to take them from its stream.
        worker_messages: usize = 256, 1..100_000,
        "limit-worker-messages", "PENSTOCK_LIMIT_WORKER_MESSAGES", "N";
        /// Parameters of a brought capability's stream.
        byoc_stream_body_bytes: u64 = 10 << 20, 1_024..1_073_741_824,
        "limit-byoc-stream-body-bytes", "PENSTOCK_LIMIT_BYOC_STREAM_BODY_BYTES", "BYTES";
        /// A worker's answer to the start of a stream or of training, and to what is asked of a stream.
        byoc_answer_bytes: u64 = 1 << 20, 1_024..1_073_741_824,
        "limit-byoc-answer-bytes", "PENSTOCK_LIMIT_BYOC_ANSWER_BYTES", "BYTES";
        /// One line of a brought capability's events.
        byoc_line_bytes: usize = 1 << 20, 1_024..67_108_864,
        "limit-byoc-line-bytes", "PENSTOCK_LIMIT_BYOC_LINE_BYTES", "BYTES";
        /// Such lines that wait for the client.
        byoc_waiting_lines: usize = 16, 1..10_000,
        "limit-byoc-waiting-lines", "PENSTOCK_LIMIT_BYOC_WAITING_LINES", "N";
        /// A worker's answer about a training job.
        training_answer_bytes: u64 = 64 << 10, 1_024..67_108_864,
        "limit-training-answer-bytes", "PENSTOCK_LIMIT_TRAINING_ANSWER_BYTES", "BYTES";
        /// Training jobs that have ended and are told of. How many may run, --max-byoc-jobs says.
        trainings_kept: usize = 1_000, 1..1_000_000,
        "limit-trainings-kept", "PENSTOCK_LIMIT_TRAININGS_KEPT", "N";
        /// For how long they are told of, in milliseconds.
        trainings_kept_ms: u64 = 86_400_000, 1_000..2_592_000_000,
        "limit-trainings-kept-ms", "PENSTOCK_LIMIT_TRAININGS_KEPT_MS", "MS";
        /// Heartbeat or request of a live runner, or registration of a brought capability.
        worker_body_bytes: u64 = 64 << 10, 1_024..1_048_576,
        "limit-worker-body-bytes", "PENSTOCK_LIMIT_WORKER_BODY_BYTES", "BYTES";
        /// Pieces of a live runner's answer that wait for the client.
        runner_waiting_pieces: usize = 8, 1..10_000,
        "limit-runner-waiting-pieces", "PENSTOCK_LIMIT_RUNNER_WAITING_PIECES", "N";
        /// Messages that wait for a live runner to read them; more are dropped.
        runner_messages: usize = 32, 1..10_000,
        "limit-runner-messages", "PENSTOCK_LIMIT_RUNNER_MESSAGES", "N";
        /// Sessions of live runners that have ended and are told of.
        ended_sessions: usize = 1_000, 1..1_000_000,
        "limit-ended-sessions", "PENSTOCK_LIMIT_ENDED_SESSIONS", "N";
        /// Body of a request for a live video session.
        live_start_bytes: u64 = 1 << 20, 1_024..16_777_216,
        "limit-live-start-bytes", "PENSTOCK_LIMIT_LIVE_START_BYTES", "BYTES";
        /// Answer of a live video runner, be it about its health or to a start.
        live_answer_bytes: usize = 64 << 10, 1_024..67_108_864,
        "limit-live-answer-bytes", "PENSTOCK_LIMIT_LIVE_ANSWER_BYTES", "BYTES";
        /// Media channels of one session of a hosted runner at once.
        serverless_channels: usize = 64, 1..10_000,
        "limit-serverless-channels", "PENSTOCK_LIMIT_SERVERLESS_CHANNELS", "N";
        /// One message of a hosted runner.
        serverless_message_bytes: usize = 1 << 20, 1_024..67_108_864,
        "limit-serverless-message-bytes", "PENSTOCK_LIMIT_SERVERLESS_MESSAGE_BYTES", "BYTES";
        /// Times that a hosted runner may begin anew within a minute.
        serverless_restarts: usize = 20, 1..10_000,
        "limit-serverless-restarts", "PENSTOCK_LIMIT_SERVERLESS_RESTARTS", "N";
        /// Answer of --auth-webhook-url.
        webhook_answer_bytes: usize = 64 << 10, 1_024..16_777_216,
        "limit-webhook-answer-bytes", "PENSTOCK_LIMIT_WEBHOOK_ANSWER_BYTES", "BYTES";
        /// Questions to it at once.
        webhook_questions: usize = 64, 1..10_000,
        "limit-webhook-questions", "PENSTOCK_LIMIT_WEBHOOK_QUESTIONS", "N";
        /// Gateways whose answers of it are remembered.
        webhook_known: usize = 16_384, 1..10_000_000,
        "limit-webhook-known", "PENSTOCK_LIMIT_WEBHOOK_KNOWN", "N";
        /// Senders about whom the chain's word is remembered: so many with money, so many without.
        senders_known: usize = 4_096, 1..10_000_000,
        "limit-senders-known", "PENSTOCK_LIMIT_SENDERS_KNOWN", "N";
        /// Gateways whose offers at a price of the webhook's are remembered.
        priced_gateways: usize = 10_000, 1..10_000_000,
        "limit-priced-gateways", "PENSTOCK_LIMIT_PRICED_GATEWAYS", "N";
        /// Answers of `GET /prices` that are kept, one for each gateway with prices of its own.
        price_answers: usize = 16, 1..10_000,
        "limit-price-answers", "PENSTOCK_LIMIT_PRICE_ANSWERS", "N";
        /// Kinds of work whose throughput is measured.
        measured_models: usize = 1_000, 1..1_000_000,
        "limit-measured-models", "PENSTOCK_LIMIT_MEASURED_MODELS", "N";
    }
}
