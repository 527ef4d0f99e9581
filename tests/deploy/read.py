"""Reads deploy/ as its tools do, and prints what the roles are started with, and which of their ports
others reach them at, as JSON: of compose, of the chart with its defaults, and of the chart with other values.

The Helm chart is linted and rendered by Helm's own engine, every object is held to Kubernetes' schemas
(strictly: an unknown field is an error), and the committed manifests have to be what the chart renders to.
With `--write` they are written.
"""

import json
import pathlib
import re
import sys

import helm_python as helm
import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "penstock"
MANIFESTS = DEPLOY / "kubernetes" / "penstock.yaml"
KUBERNETES = "1.30"
HEAD = "# Rendered from deploy/helm/penstock with its default values: `cargo xtask deploy` writes it.\n"


# Other values than the defaults that change what there is: what they render to is looked at in the same way.
VARIANTS = {
    "orchestrators for gateways elsewhere": {
        "orchestrator": {
            "replicas": 3,
            "serviceAddress": "https://$(POD_NAME).orch.example:8935",
            "podService": "LoadBalancer",
        }
    },
    "books elsewhere, no redeemer": {
        "orchestrator": {"ledger": "postgres://orchestrator@db.example/books", "postgres": {"enabled": False}},
        "redeemer": {"enabled": False},
        "ledger": "postgres://signer@db.example/books",
        "postgres": {"enabled": False},
    },
    "another account pays the gas": {
        "redeemer": {"key": "redeemer-key", "recipient": "0x0123456789012345678901234567890123456789"}
    },
    "no orchestrator": {"orchestrator": {"enabled": False}, "worker": {"enabled": False}},
    "workers of an orchestrator elsewhere": {
        "orchestrator": {"enabled": False},
        "worker": {"replicas": 2, "orchestrator": "https://orch.example:8935"},
    },
}
# Values that nothing good can be rendered of; the chart says so.
REFUSED = {
    "ports that nobody is told": {"orchestrator": {"podService": "NodePort"}},
    "workers without an orchestrator": {"orchestrator": {"enabled": False}},
}


def rendered(values=None):
    """The chart, with its defaults but for these values, object by object, in one text."""
    files = helm.Chart.load(CHART).render(values, name="penstock", namespace="penstock")
    texts = [text.strip() for name, text in sorted(files.items()) if name.endswith(".yaml")]
    return HEAD + "".join(f"---\n{text}\n" for text in texts if text)


def objects(text):
    """Its objects, each valid."""
    for found in yaml.safe_load_all(text):
        if found:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)
            yield found


def containers(found):
    """Every container of an object, wherever it is."""
    if isinstance(found, dict):
        for key in ("containers", "initContainers"):
            yield from found.get(key) or []
        for value in found.values():
            yield from containers(value)
    elif isinstance(found, list):
        for value in found:
            yield from containers(value)


def start(where, command, environment, replicas, grace):
    """`grace` is how many seconds it is left after it was told to end."""
    return {
        "where": where,
        "command": command,
        "environment": sorted(environment),
        "replicas": replicas,
        "grace_s": grace,
    }


def started(found, security):
    """What objects start; what is wrong with their containers' rights goes to `security`."""
    for one in found:
        where = f"kubernetes {one['kind']}/{one['metadata']['name']}"
        spec = one.get("spec", {})
        replicas = spec.get("replicas", 1)
        # Kubernetes' own is half a minute.
        grace = spec.get("template", {}).get("spec", {}).get("terminationGracePeriodSeconds", 30)
        for container in containers(one):
            command = (container.get("command") or []) + (container.get("args") or [])
            names = [entry["name"] for entry in container.get("env") or []]
            yield start(f"{where} {container['name']}", command, names, replicas, grace)
            context = container.get("securityContext") or {}
            if not (context.get("readOnlyRootFilesystem") and context.get("allowPrivilegeEscalation") is False):
                security.append(f"{where} {container['name']} may write to its image or gain rights")


def refusal(values):
    """What the chart says against these values; empty if it renders them."""
    try:
        rendered(values)
    except helm.HelmRenderError as error:
        return str(error)
    return ""


def addresses(command, environment):
    """Whatever looks like HOST:PORT in what a container is told."""
    words = [*command, *(str(value) for value in environment.values())]
    return [(host, int(port)) for word in words for host, port in re.findall(r"([a-z][a-z0-9.-]*):(\d+)", word)]


def reached_in_kubernetes(found):
    """Who is reached where: containers' own ports, those of Services, and those that others are told."""
    services = {o["metadata"]["name"]: o["spec"] for o in found if o["kind"] == "Service"}
    pods = {}
    for o in found:
        template = o.get("spec", {}).get("template", {})
        if "spec" in template:
            where = f"kubernetes {o['kind']}/{o['metadata']['name']}"
            labels = set(template["metadata"]["labels"].items())
            if o["kind"] == "StatefulSet":
                # Each of them has its own name besides.
                for number in range(o["spec"]["replicas"]):
                    labels.add(("statefulset.kubernetes.io/pod-name", f"{o['metadata']['name']}-{number}"))
            pods[where] = (labels, template["spec"]["containers"])

    def behind(service):
        wanted = services[service]["selector"].items()
        return [(w, containers) for w, (labels, containers) in pods.items() if wanted <= labels]

    def reached(where, service, port):
        """`port` is a number, or the name of a container's port."""
        to = [
            (f"{w} {c['name']}", p["containerPort"])
            for w, containers in behind(service)
            for c in containers
            for p in c.get("ports") or []
            if port in (p["name"], p["containerPort"])
        ]
        if not to:
            sys.exit(f"{where}: nobody behind {service} has a port {port}")
        return [{"where": where, "to": w, "port": number} for w, number in to]

    for name, service in services.items():
        for port in service["ports"]:
            yield from reached(f"kubernetes Service/{name}", name, port.get("targetPort", port["port"]))
    for where, (_, containers) in pods.items():
        for c in containers:
            at = f"{where} {c['name']}"
            for port in c.get("ports") or []:
                yield {"where": at, "to": at, "port": port["containerPort"]}
            environment = {e["name"]: e.get("value", "") for e in c.get("env") or []}
            for host, port in addresses((c.get("command") or []) + (c.get("args") or []), environment):
                # SERVICE, or POD.SERVICE where each pod has its own name.
                name = next((part for part in host.split(".")[:2] if part in services), None)
                if name:
                    service = services[name]
                    mapped = {p["port"]: p.get("targetPort", p["port"]) for p in service["ports"]}
                    if service.get("clusterIP") != "None" and port not in mapped:
                        sys.exit(f"{at}: Service {name} has no port {port}")
                    yield from reached(at, name, mapped.get(port, port))


def reached_in_compose(services):
    """The same: what is published on the machine, and what others are told."""
    for name, service in services.items():
        where = f"compose {name}"
        for published in service.get("ports") or []:
            yield {"where": where, "to": where, "port": int(published.rsplit(":", 1)[1])}
        for host, port in addresses(service.get("command") or [], service.get("environment") or {}):
            if host in services:
                yield {"where": where, "to": f"compose {host}", "port": port}


def main():
    lint = [m for m in helm.lint(CHART, strict=True)["messages"] if m["severity"] >= 2]
    if lint:
        sys.exit(f"helm lint: {lint}")
    text = rendered()
    if "--write" in sys.argv:
        MANIFESTS.parent.mkdir(exist_ok=True)
        MANIFESTS.write_text(text)
    if MANIFESTS.read_text() != text:
        sys.exit("deploy/kubernetes/penstock.yaml is not what the chart renders to: run `cargo xtask deploy`")
    security, all_objects = [], list(objects(text))
    starts = list(started(all_objects, security))
    variants = {}
    for name, values in VARIANTS.items():
        found = list(objects(rendered(values)))
        variants[name] = list(started(found, security))
        try:
            list(reached_in_kubernetes(found))
        except SystemExit as wrong:
            sys.exit(f"with other values ({name}): {wrong}")
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        names = list(service.get("environment") or {})
        # Docker's own is ten seconds.
        grace = int(service.get("stop_grace_period", "10s").removesuffix("s"))
        starts.append(start(f"compose {name}", service.get("command") or [], names, 1, grace))
        for secret in service.get("secrets") or []:
            if secret not in compose["secrets"]:
                security.append(f"compose {name}: no secret {secret}")
    if security:
        sys.exit("\n".join(security))
    reached = [*reached_in_kubernetes(all_objects), *reached_in_compose(compose["services"])]
    refused = {name: refusal(values) for name, values in REFUSED.items()}
    json.dump({"starts": starts, "reached": reached, "variants": variants, "refused": refused}, sys.stdout)


main()
