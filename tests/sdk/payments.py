"""The network's official SDK, unmodified, against our signer and orchestrator.

    python tests/sdk/payments.py SIGNER_URL ORCHESTRATOR_URL

Prints one JSON object of what the SDK saw; the test that runs this compares it with both ledgers.
"""

import json
import sys

from livepeer_gateway import PaymentSession, discover_orchestrators, get_orch_info


def main() -> None:
    signer, orchestrator = sys.argv[1:3]

    found = discover_orchestrators(signer_url=signer)
    info = get_orch_info(orchestrator, signer_url=signer)
    assert info.ticket_params.recipient, "a paid orchestrator names its recipient"

    # The SDK's own sizes: type lv2v buys 60 s of 720p30 at first, then what has passed since.
    session = PaymentSession(signer, info, type="lv2v", app="live-video-to-video/noop")
    session.send_payment()

    # A second session of the same sender, and its state going around.
    other = PaymentSession(signer, get_orch_info(orchestrator, signer_url=signer), type="lv2v")
    payment = other.get_payment()
    assert payment.payment and payment.seg_creds

    print(json.dumps({
        "discovered": found,
        "transcoder": info.transcoder,
        "recipient": "0x" + info.ticket_params.recipient.hex(),
        "auth_session": info.auth_token.session_id,
        "price_per_unit": info.price_info.pricePerUnit,
        "pixels_per_unit": info.price_info.pixelsPerUnit,
    }))


if __name__ == "__main__":
    main()
