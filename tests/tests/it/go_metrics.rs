//! The Go node's metrics: each of its names is one that a role has too, or one that the documents say is not here, and
//! why; and labels are its labels.

use super::documented;
use penstock_testkit::places;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// Its names, without `livepeer_`, and the labels of each beside those of the node; as `monitor/census.go` has them.
/// `M` is the stream, `S` the sender, `C` the client's address, `OI` the three of an orchestrator.
const GO: &str = "
versions compiler goos goversion livepeerversion
stream_created_total
stream_started_total
stream_ended_total
http_client_timeout_1 M C
http_client_timeout_2 M C
http_client_segment_transcoded_realtime_ratio M C
http_client_segment_transcoded_realtime_3x M C
http_client_segment_transcoded_realtime_2x M C
http_client_segment_transcoded_realtime_1x M C
http_client_segment_transcoded_realtime_half M C
http_client_segment_transcoded_realtime_slow M C
kafka_event_send_errors event_type
segment_source_appeared_total M profile seg_type
segment_source_emerged_total M
segment_source_emerged_unprocessed_total M C
segment_source_uploaded_total M orchestrator_uri
segment_source_upload_failed_total M orchestrator_uri error_code
segment_transcoded_downloaded_total M
segment_transcoded_total profiles trusted verified
segment_transcoded_unprocessed_total M OI profiles
segment_transcoded_all_appeared_total M OI profiles
segment_transcode_failed_total M error_code
success_rate
success_rate_per_stream M
transcode_time_seconds profiles trusted verified
transcode_score profiles trusted verified
transcode_overall_latency_seconds OI profiles
recording_save_latency
recording_save_errors
recording_saved_segments
upload_time_seconds orchestrator_uri
download_time_seconds M
auth_webhook_time_milliseconds
source_segment_duration_seconds M
max_sessions_total
current_sessions_total
discovery_errors_total error_code orchestrator_uri
transcode_retried M try
transcoders_number
transcoders_capacity
transcoders_load
orchestrator_swaps M
ticket_value_sent M
tickets_sent M
payment_create_errors M
gateway_deposit S
gateway_reserve S
broadcaster_deposit S
broadcaster_reserve S
gateway_max_float S
gateway_ticket_face_value S
ticket_value_recv M S
tickets_recv M S
winning_tickets_recv M S
payment_recv_errors M S error_code
value_redeemed S
ticket_redemption_errors
min_gas_price
max_gas_price
suggested_gas_price
mil_pixels_processed M C
transcoding_price S
price_per_capability pipeline model_name
reward_call_errors
fast_verification_done M orchestrator_uri
fast_verification_failed M orchestrator_uri fverror_type
fast_verification_enabled_current_sessions_total
fast_verification_using_current_sessions_total
segment_scene_class_prob M seg_class_name
scene_classification_total_segments
ai_models_requested pipeline model_name
ai_request_price pipeline model_name
ai_request_latency_score pipeline model_name OI
ai_request_errors error_code pipeline model_name OI S
ai_result_downloaded_total pipeline model_name
ai_result_download_time_seconds pipeline model_name
ai_result_uploaded_total orchestrator_uri pipeline model_name
ai_result_upload_time_seconds orchestrator_uri pipeline model_name
ai_result_save_failed_total error_code pipeline model_name
ai_container_in_use pipeline model_name orchestrator_uri
ai_container_idle pipeline model_name orchestrator_uri
ai_gpus_idle pipeline model_name
ai_current_live_pipelines pipeline
live_ai_price_per_pixel orchestrator_uri
ai_first_segment_delay_ms OI
ai_live_attempt model_name
ai_whip_transport_bytes_received
ai_whip_transport_bytes_sent
ai_orchestrators_available_total
";
/// Labels that no role has, which the documents say too.
const LEFT_OUT: [&str; 7] =
    ["manifest_id", "sender", "client_ip", "profile", "profiles", "trusted", "verified"];
const OI: [&str; 3] = ["orchestrator_uri", "orchestrator_address", "orchestrator_version"];

fn go() -> BTreeMap<String, BTreeSet<String>> {
    let lines = GO.lines().filter(|line| !line.is_empty());
    let one = |line: &str| {
        let mut words = line.split(' ');
        let name = format!("livepeer_{}", words.next().unwrap());
        let labels = words.flat_map(|word| match word {
            "M" => vec!["manifest_id"],
            "S" => vec!["sender"],
            "C" => vec!["client_ip"],
            "OI" => OI.to_vec(),
            label => vec![label],
        });
        (name, labels.map(str::to_owned).collect())
    };
    lines.map(one).collect()
}

/// Names in backquotes that begin so, with the labels in braces.
fn told(part: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut told = BTreeMap::new();
    for text in part.split('`').skip(1).step_by(2).filter(|text| text.starts_with("livepeer_")) {
        let (name, labels) = text.split_once('{').unwrap_or((text, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        told.insert(name.to_owned(), labels.map(str::to_owned).collect());
    }
    told
}

#[test]
fn every_metric_of_the_go_node_is_here_or_said_not_to_be() {
    let text = fs::read_to_string(places::repository().join("docs/telemetry.md")).unwrap();
    let (_, rest) =
        text.split_once("Under the Go node's names").expect("the table of what is here");
    let (here, rest) =
        rest.split_once("Names of the Go node's that are not here:").expect("the other one");
    let (absent, _) = rest.split_once("**Dashboard and alerts.**").expect("what follows");
    // Reasons name others.
    let names = absent.lines().filter_map(|row| row.strip_prefix("| ")?.split(" | ").next());
    let absent = names.collect::<Vec<_>>().join("\n");
    let (here, absent, go) = (told(here), told(&absent), go());

    let is_of_go = |name: &String| name.starts_with("livepeer_");
    let sources = documented::metrics(&documented::sources_of_all_roles());
    let counted: BTreeSet<String> = sources.into_iter().filter(is_of_go).collect();
    let documented: BTreeSet<String> = here.keys().cloned().collect();
    assert_eq!(documented, counted, "documented as here, and counted by roles");
    let all: BTreeSet<String> = documented.iter().chain(absent.keys()).cloned().collect();
    assert_eq!(all, go.keys().cloned().collect::<BTreeSet<String>>());
    assert_eq!(all.len(), here.len() + absent.len(), "here and not here at once");
    for (name, labels) in &here {
        let mut expected = go[name].clone();
        expected.retain(|label| !LEFT_OUT.contains(&label.as_str()));
        assert_eq!(labels, &expected, "labels of {name}");
    }
}
