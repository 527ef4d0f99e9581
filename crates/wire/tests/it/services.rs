//! Method paths and field numbers, as a foreign node sees them.

use penstock_wire::net;
use prost::Message;
use tonic::server::NamedService;

#[test]
fn services_have_the_network_names() {
    struct Nothing;
    assert_eq!(
        <net::orchestrator_server::OrchestratorServer<Nothing> as NamedService>::NAME,
        "net.Orchestrator"
    );
    assert_eq!(
        <net::ai_worker_server::AiWorkerServer<Nothing> as NamedService>::NAME,
        "net.AIWorker"
    );
    assert_eq!(
        <net::transcoder_server::TranscoderServer<Nothing> as NamedService>::NAME,
        "net.Transcoder"
    );
    assert_eq!(
        <net::ticket_redeemer_server::TicketRedeemerServer<Nothing> as NamedService>::NAME,
        "net.TicketRedeemer"
    );
}

/// Encoded tags of messages whose numbers have gaps, written down by hand from the table of
/// orchestrator-wire.md section 2.
#[test]
fn field_numbers_with_gaps() {
    let bytes = |m: &net::NotifySegment| m.encode_to_vec();
    let n = net::NotifySegment { task_id: 1, orch_id: "o".into(), ..Default::default() };
    assert_eq!(bytes(&n), [0x80, 0x01, 1, 0x92, 0x01, 1, b'o']);
    // Ours, with a number that no other node has; absent it adds no byte.
    let n = net::NotifySegment { traceparent: "t".into(), ..Default::default() };
    assert_eq!(bytes(&n), [0x8a, 0xe2, 0x09, 1, b't']);
    let n = net::NotifyAiJob { traceparent: "t".into(), ..Default::default() };
    assert_eq!(n.encode_to_vec(), [0x8a, 0xe2, 0x09, 1, b't']);
    let gpu = net::GpuComputeInfo { major: 8, memory_total: 1, ..Default::default() };
    assert_eq!(gpu.encode_to_vec(), [0x20, 8, 0x38, 1]);
    let result = net::TranscodeResult {
        info: Some(net::OrchestratorInfo { nodes: vec!["n".into()], ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(result.encode_to_vec(), [0x82, 0x01, 4, 0x92, 0x02, 1, b'n']);
    let segment = net::SegData {
        calc_perceptual_hash: true,
        segment_parameters: Some(net::SegParameters { from: 1, to: 2 }),
        force_session_reinit: true,
        ..Default::default()
    };
    assert_eq!(segment.encode_to_vec(), [0x50, 1, 0xaa, 0x02, 4, 8, 1, 16, 2, 0xb0, 0x02, 1]);
    let profile = net::VideoProfile { name: "p".into(), quality: 3, ..Default::default() };
    assert_eq!(profile.encode_to_vec(), [0x82, 0x01, 1, b'p', 0xe0, 0x01, 3]);
    let caps = net::Capabilities { bitstring: vec![1, 2], ..Default::default() };
    assert_eq!(caps.encode_to_vec(), [0x0a, 2, 1, 2], "packed");
}
