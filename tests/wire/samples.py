"""One sample of every wire message, version 1. Their bytes are pinned under `tests/golden/wire/`."""

from __future__ import annotations

import msgspec

from shared.drift.counts import pack_counts
from shared.wire import delta, down, health, http, system, training, up, window

DIGEST = "ab" * 32
EPOCH = "0123456789abcdef"

UP: dict[str, msgspec.Struct] = {
    "heartbeat": up.Heartbeat(
        agent_version="0.1.0",
        uptime_s=3600,
        rss_bytes=60_000_000,
        cpu_percent=0.25,
        disk_free_bytes=10**9,
        outbox_count=3,
        outbox_dropped=1,
        models=[
            up.ModelStatus(
                model="digits",
                version=2,
                bundle_sha256=DIGEST,
                state="committed",
                assignment_counter=7,
                requests=100,
                errors=1,
                latency_p50_us=40,
                latency_p99_us=90,
            )
        ],
    ),
    "inventory": up.Inventory(
        profile="raspberry-pi-4",
        agent_version="0.1.0",
        runtime="ai-edge-litert",
        runtime_version="2.3.0",
        arch="aarch64",
        os="Linux 6.1",
        python="3.11.7",
        cpu_count=4,
        memory_bytes=4 << 30,
        storage_bytes=32 << 30,
        hardware_id="serial-1",
    ),
    "install": up.InstallReport(
        model="digits",
        version=3,
        bundle_sha256=DIGEST,
        assignment_counter=8,
        previous="probing",
        state="rolling_back",
        event="failed",
        reason_code="probe.golden_mismatch",
        reason="The golden outputs differ by 0.9; 0.05 is allowed.",
        active_version=2,
        attempt=1,
        bytes_downloaded=30_000,
    ),
    "event": up.Event(code="assignment.replayed", severity="warning", message="Refused.", model="digits", count=2),
    "health": health.Health(
        versions=[
            health.VersionHealth(
                model="digits",
                version=2,
                requests=100,
                errors=1,
                over_budget=2,
                crashes=1,
                latency=[(7, 90), (31, 9)],
                shadow=health.ShadowHealth(
                    version=3, compared=10, disagreed=1, errors=2, over_budget=3, skipped=4, latency=[(9, 10)]
                ),
            )
        ]
    ),
    "window": window.Window(
        model="digits",
        version=2,
        series=EPOCH,
        window_id=12,
        started_s=1_700_000_000.0,
        ended_s=1_700_000_900.0,
        reference_sha256=DIGEST,
        rows=3,
        predicted=2,
        skipped=40,
        cells=pack_counts([3] + [0] * 23 + [0, 2] + [0] * 22),
        scores=pack_counts([2] + [0] * 19),
        row_causes={"duplicate": 1},
        refused={"missing_column": 4, "not_finite": 1},
        findings=[window.Finding(feature=0, cause="unit", rows=3, detail="*1000")],
        feedback=window.Feedback(
            labelled=2, errors=1, unknown=3, outcomes_count=2, outcomes=b"\x40", confusion=pack_counts([1, 1, 0, 0])
        ),
    ),
    "metrics": window.Metrics(
        started_s=1_700_000_000.0,
        ended_s=1_700_000_060.0,
        metrics=[
            window.Metric(name="items_sold", kind="counter", model="digits", version=2, arm="a", count=3, total=12.5),
            window.Metric(name="belt_speed", kind="gauge", count=2, total=3.0, least=1.0, greatest=2.0, last=2.0),
        ],
    ),
    "training": training.TrainingReport(
        run="f-0123456789ab",
        round_no=3,
        model="digits",
        state="declined",
        code="training.too_hot",
        reason="The device is too hot. It is 81 °C; below 75.",
        retry_s=600.0,
    ),
    "dropped": up.Dropped(count=5, kinds={"heartbeat": 5}),
}

ENVELOPE = up.Envelope(
    device_id="cam-1",
    epoch=EPOCH,
    first_seq=9,
    seq=9,
    created_s=1_700_000_000.5,
    kind="event",
    body=up.encode_body(UP["event"]),
)

MSGPACK: dict[str, msgspec.Struct] = {
    **UP,
    "envelope": ENVELOPE,
    "heartbeat_with_system": msgspec.structs.replace(
        UP["heartbeat"],
        system=system.System(
            cpu_percent=12.5,
            load_1m=0.25,
            temperature_c=48.5,
            memory_available_bytes=1 << 30,
            disk_total_bytes=32 << 30,
            uptime_s=86_400,
            restarts=2,
            clock_synchronised=True,
            battery_percent=80.0,
            on_battery=False,
        ),
    ),
    "heartbeat_with_link": msgspec.structs.replace(
        UP["heartbeat"],
        system=system.System(link="mqtt", link_rtt_s=0.0425, link_reconnects=1, clock_ahead_s=-3.5),
    ),
    "heartbeat_with_samples": msgspec.structs.replace(
        UP["heartbeat"], samples=[training.SampleCount(model="digits", kept=400, seen=1200, classes=10, personal=True)]
    ),
    "offer": training.TrainingOffer(
        device_id="cam-1",
        run="f-0123456789ab",
        round_no=3,
        model="digits",
        version=2,
        bundle_sha256=DIGEST,
        address="hub.example:8450",
        valid_s=60.0,
        task_s=120.0,
        linger_s=30.0,
        bytes=12_000,
        memory_bytes=128 << 20,
        min_samples=20,
        min_classes=2,
        promise=training.Promise(secure_aggregation=True, client_noise=1.0, clip=0.5),
    ),
    "desired": down.DesiredState(device_id="cam-1", revision=4, assignments=[b'{"payload":""}']),
    "watermark": down.Watermark(epoch=EPOCH, seq=9),
    "watermark_timed": down.Watermark(epoch=EPOCH, seq=9, hub_s=1_700_000_000.5),
    "desired_traced": down.DesiredState(
        device_id="cam-1",
        revision=4,
        assignments=[b'{"payload":""}'],
        traceparents={"digits": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"},
    ),
    "install_traced": msgspec.structs.replace(
        UP["install"],
        trace=up.InstallTrace(
            traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01",
            assigned_s=1_700_000_000.0,
            began_s=1_700_000_001.5,
            at_s=1_700_000_002.0,
        ),
    ),
}

JSON: dict[str, msgspec.Struct] = {
    "assignment": down.Assignment(
        device_id="cam-1",
        model="digits",
        version=3,
        counter=8,
        target="digits/3.bundle",
        bundle_sha256=DIGEST,
        bundle_bytes=50_000,
        issued_s=1_700_000_000.0,
        expires_s=1_700_600_000.0,
        bake_s=60,
        deployment="d-1",
    ),
    "assignment_shadow": down.Assignment(
        schema_version=down.CONDITIONAL_SCHEMA,
        device_id="cam-1",
        model="digits",
        version=4,
        counter=9,
        target="digits/4.bundle",
        bundle_sha256=DIGEST,
        bundle_bytes=50_000,
        issued_s=1_700_000_000.0,
        expires_s=1_700_600_000.0,
        deployment="r-1",
        mode="shadow",
        shadow=down.ShadowRun(share_bp=2500, cpu_bp=300, tolerance_ppm=50_000),
        window=down.Window(cron="0 2 * * mon-fri", duration_s=7200, timezone="Europe/Paris"),
    ),
    "enrol_request": http.EnrolRequest(token="ske_x", csr_pem="PEM", profile="x86-gateway", device_id="cam-1"),
    "enrol_reply": http.EnrolReply(
        device_id="cam-1",
        certificate_pem="PEM",
        hub_ca_pem="PEM",
        mqtt_host="hub.example",
        mqtt_port=8883,
        tuf_root="{}",
    ),
    "renew_request": http.RenewRequest(csr_pem="PEM"),
    "renew_reply": http.RenewReply(certificate_pem="PEM"),
    "delta_offer": delta.DeltaOffer(from_sha256=DIGEST, to_sha256="b" * 64, sha256="c" * 64, bytes=900),
    "messages_reply": http.DeviceMessagesReply(epoch=EPOCH, watermark=9),
    "messages_reply_timed": http.DeviceMessagesReply(epoch=EPOCH, watermark=9, hub_s=1_700_000_000.5),
}
