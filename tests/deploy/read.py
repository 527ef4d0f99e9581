"""Reads deploy/ as its tools do, and prints what the roles are started with, as JSON.

The Helm chart is linted and rendered by Helm's own engine, every object is held to Kubernetes' schemas
(strictly: an unknown field is an error), and the committed manifests have to be what the chart renders to.
With `--write` they are written.
"""

import json
import pathlib
import sys

import helm_python as helm
import kubernetes_validate
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "penstock"
MANIFESTS = DEPLOY / "kubernetes" / "penstock.yaml"
KUBERNETES = "1.30"
HEAD = "# Rendered from deploy/helm/penstock with its default values: `cargo xtask deploy` writes it.\n"


def rendered():
    """The chart with its defaults, object by object, in one text."""
    files = helm.Chart.load(CHART).render(name="penstock", namespace="penstock")
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


def start(where, command, environment):
    return {"where": where, "command": command, "environment": sorted(environment)}


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
    starts, security = [], []
    for found in objects(text):
        where = f"kubernetes {found['kind']}/{found['metadata']['name']}"
        for container in containers(found):
            command = (container.get("command") or []) + (container.get("args") or [])
            names = [entry["name"] for entry in container.get("env") or []]
            starts.append(start(f"{where} {container['name']}", command, names))
            context = container.get("securityContext") or {}
            if not (context.get("readOnlyRootFilesystem") and context.get("allowPrivilegeEscalation") is False):
                security.append(f"{where} {container['name']} may write to its image or gain rights")
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        names = list(service.get("environment") or {})
        starts.append(start(f"compose {name}", service.get("command") or [], names))
        for secret in service.get("secrets") or []:
            if secret not in compose["secrets"]:
                security.append(f"compose {name}: no secret {secret}")
    if security:
        sys.exit("\n".join(security))
    json.dump(starts, sys.stdout)


main()
