//! How much of everything this worker takes: from its orchestrator, from where segments are fetched, from runners, and
//! from ffmpeg. Lengths that the network's protocol says are `penstock_wire`'s.

penstock_config::limits! {
    /// Bounds of what is taken.
    pub struct Limits {
        /// One gRPC message of the orchestrator.
        notice_bytes: usize = penstock_wire::limits::GRPC_MESSAGE_BYTES, 16_384..67_108_864,
        "limit-notice-bytes", "PENSTOCK_LIMIT_NOTICE_BYTES", "BYTES";
        /// One segment as it is fetched, and each rendition of it.
        segment_bytes: u64 = penstock_wire::limits::SEGMENT_BYTES, 1_000..4_294_967_296,
        "limit-segment-bytes", "PENSTOCK_LIMIT_SEGMENT_BYTES", "BYTES";
        /// Segments of one session at once: one that is worked on, and those that wait.
        session_segments: usize = 5, 1..1_000,
        "limit-session-segments", "PENSTOCK_LIMIT_SESSION_SEGMENTS", "N";
        /// Sessions of which it is remembered on which card they are.
        placed_sessions: usize = 4_096, 1..1_000_000,
        "limit-placed-sessions", "PENSTOCK_LIMIT_PLACED_SESSIONS", "N";
        /// Input of an AI job. Runners take 50 MB; a little more is read, so that they are the ones to say so.
        ai_input_bytes: u64 = 51 << 20, 1_024..4_294_967_296,
        "limit-ai-input-bytes", "PENSTOCK_LIMIT_AI_INPUT_BYTES", "BYTES";
        /// A runner's answer.
        ai_answer_bytes: usize = 64 << 20, 1_024..4_294_967_296,
        "limit-ai-answer-bytes", "PENSTOCK_LIMIT_AI_ANSWER_BYTES", "BYTES";
        /// One piece of a runner's answer in pieces.
        ai_piece_bytes: usize = 1 << 20, 1_024..67_108_864,
        "limit-ai-piece-bytes", "PENSTOCK_LIMIT_AI_PIECE_BYTES", "BYTES";
        /// Files of one answer.
        ai_result_files: usize = 64, 1..10_000,
        "limit-ai-result-files", "PENSTOCK_LIMIT_AI_RESULT_FILES", "N";
        /// One such file.
        ai_result_file_bytes: usize = 64 << 20, 1_024..4_294_967_296,
        "limit-ai-result-file-bytes", "PENSTOCK_LIMIT_AI_RESULT_FILE_BYTES", "BYTES";
        /// Frames of a film.
        film_frames: usize = 1_024, 1..100_000,
        "limit-film-frames", "PENSTOCK_LIMIT_FILM_FRAMES", "N";
        /// One such frame.
        film_frame_bytes: usize = 64 << 20, 1_024..4_294_967_296,
        "limit-film-frame-bytes", "PENSTOCK_LIMIT_FILM_FRAME_BYTES", "BYTES";
        /// A film. The gateways of the network take no larger one than the default.
        film_bytes: u64 = 300_000_000, 1_000..4_294_967_296,
        "limit-film-bytes", "PENSTOCK_LIMIT_FILM_BYTES", "BYTES";
    }
}
