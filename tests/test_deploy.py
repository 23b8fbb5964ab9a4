"""What lies in deploy/ against the server that it deploys: metrics, arguments, ports, times."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from dragoman_service import errors
from dragoman_service.cli.serve import ServeCommand
from dragoman_service.engine.request import FinishReason
from dragoman_service.server.fronts.supervisor import process_restarts
from dragoman_service.server.gpu_metrics import GpuCollector
from dragoman_service.server.http_pages import Condition
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.settings import ServerSettings
from support.certificates import Authority
from support.fake_nvml import BUS_ID, FakeNvml
from support.fake_workers import FakeWorkers, served
from support.proxy import HAPROXY
from support.server_thread import serving

DEPLOY = Path(__file__).parents[1] / "deploy"
DEFAULTS = ServerSettings()
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "info": ("_info",)}
TARGET_LABELS = {"job", "instance", "le"}
"""Added by Prometheus, and by its histograms."""


def alert_expressions() -> list[str]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    return loaded


def dashboard_expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    return panels + [
        variable["definition"] for variable in dashboard()["templating"]["list"] if "definition" in variable
    ]


def names_in(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:dragoman|process|python)_\w+", expression))


def served_metrics() -> dict[str, set[str]]:
    """Every name that a scrape can show, with its labels."""
    metrics = Metrics(CollectorRegistry())
    metrics.registry.register(GpuCollector(FakeNvml(), BUS_ID))
    restarts = process_restarts(metrics.registry)
    own = [restarts, *(metric for metric in vars(metrics).values() if hasattr(metric, "_labelnames"))]
    labels = {metric._name: set(metric._labelnames) for metric in own}
    labels |= {family.name: {"gpu"} for family in GpuCollector(FakeNvml(), BUS_ID).collect()}
    return {
        family.name + suffix: labels.get(family.name, set()) | set(getattr(family, "_labelnames", ())) | TARGET_LABELS
        for family in metrics.registry.collect()
        for suffix in SUFFIXES[family.type]
    }


@pytest.mark.parametrize("expressions", [alert_expressions(), dashboard_expressions()], ids=["alerts", "dashboard"])
def test_metrics_exist_with_their_labels(expressions: list[str]) -> None:
    known = served_metrics()
    assert any(names_in(expression) for expression in expressions)
    for expression in expressions:
        assert names_in(expression) <= set(known), expression
        for name, selector in re.findall(r"(dragoman_\w+)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)) <= known[name], expression
        grouped = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
        for name in names_in(expression):
            assert grouped <= known[name], expression


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for expression in dashboard_expressions() for name in names_in(expression)}
    families = {name for name in served_metrics() if name.startswith("dragoman_")}
    ours = {re.sub("_(bucket|sum|count|total)$", "", name) for name in families}
    assert {family for family in ours if not any(name.startswith(family) for name in shown)} == set()


def test_reasons_in_alerts_exist() -> None:
    reasons = {error.reason for error in _domain_errors()} | {reason.value for reason in FinishReason}
    asked = {reason for expression in alert_expressions() for reason in re.findall(r'reason="(\w+)"', expression)}
    assert asked
    assert asked <= reasons


def _domain_errors() -> list[type[errors.DragomanError]]:
    kinds = [value for value in vars(errors).values() if isinstance(value, type)]
    return [kind for kind in kinds if issubclass(kind, errors.DragomanError)]


def test_panels_have_ids_of_their_own() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def parsed(arguments: list[str]) -> argparse.Namespace:
    command, *rest = arguments
    assert command == "serve"
    parser = argparse.ArgumentParser(exit_on_error=False)
    ServeCommand().add_arguments(parser)
    return parser.parse_args(rest)


def deployment() -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod and its container."""
    pod = yaml.safe_load((DEPLOY / "kubernetes/deployment.yaml").read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    return pod, container


def test_kubernetes_agrees_with_the_server() -> None:
    pod, container = deployment()
    arguments = parsed(container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": arguments.port, "metrics": arguments.metrics_port}
    assert arguments.host == "0.0.0.0", "the probes come from outside of the container"
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {kind: probe["path"] for kind, probe in probes.items()} == {
        "startup": "/live",
        "readiness": "/ready",
        "liveness": "/live",
    }
    assert {probe["port"] for probe in probes.values()} == {"metrics"}
    assert arguments.threads == int(container["resources"]["limits"]["cpu"])
    assert arguments.lame_duck > 2 * container["readinessProbe"]["periodSeconds"]
    assert pod["terminationGracePeriodSeconds"] > arguments.lame_duck + arguments.grace


def test_kustomization_names_every_file() -> None:
    folder = DEPLOY / "kubernetes"
    named = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert set(named) == {path.name for path in folder.iterdir()} - {"kustomization.yaml"}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kubernetes_with_tls() -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes-tls")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    objects = {each["kind"]: each for each in yaml.safe_load_all(done.stdout)}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = parsed(container["args"])
    _, plain = deployment()
    assert container["args"][: len(plain["args"])] == plain["args"]
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
    assert [arguments.tls_cert, arguments.tls_key, arguments.tls_client_ca] == [
        f"{mount['mountPath']}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")
    ]
    assert "subPath" not in mount, "a file mounted by itself is never replaced"
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "tls"]
    assert volume["secret"] == {"secretName": "dragoman-tls"}
    assert "appProtocol" not in objects["Service"]["spec"]["ports"][0], "h2c is HTTP/2 without TLS"


def test_image_agrees_with_the_server() -> None:
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    arguments = parsed(json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile, flags=re.MULTILINE)[-1]))
    assert arguments.host == "0.0.0.0"
    assert re.findall(r"^EXPOSE (\d+) (\d+)$", dockerfile, flags=re.MULTILINE) == [
        (str(arguments.port), str(arguments.metrics_port))
    ]
    assert f"localhost:{arguments.metrics_port}" in dockerfile, "the health check asks another port"


def test_compose_agrees_with_the_server() -> None:
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]
    assert compose["dragoman"]["ports"][0].endswith(f":{DEFAULTS.port}")
    assert int(compose["dragoman"]["stop_grace_period"].removesuffix("s")) > DEFAULTS.grace
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert scrape[0]["static_configs"][0]["targets"] == [f"dragoman:{DEFAULTS.metrics_port}"]


def test_health_check_of_the_image(tmp_path: Path) -> None:
    def check(address: str) -> int:
        command = [sys.executable, str(DEPLOY / "docker/health.py"), address]
        return subprocess.run(command, capture_output=True, check=False).returncode

    pair = Authority(tmp_path).issue()
    for tls in ({}, {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_client_ca": str(pair.cert)}):
        with serving([served(FakeWorkers())], **tls) as server:
            address = f"localhost:{server.server.metrics_port}"
            assert check(address) == 0
            server.server.condition = Condition(not_ready="shutting down")
            assert check(address) == 1
        assert check(address) == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (of Prometheus) is not installed")
@pytest.mark.parametrize(
    "arguments",
    [["check", "config", "prometheus.yml"], ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]],
)
def test_prometheus_accepts(arguments: list[str]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(HAPROXY is None, reason="haproxy (Debian package haproxy) is not installed")
def test_haproxy_accepts() -> None:
    assert HAPROXY is not None
    done = subprocess.run(
        [HAPROXY, "-c", "-f", str(DEPLOY / "haproxy/haproxy.cfg")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_gives_the_server_no_rights() -> None:
    pod, container = deployment()
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC", "hostUsers"}
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_compose_gives_the_server_no_rights() -> None:
    service = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]["dragoman"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"], "and Docker's own seccomp profile"
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "user", "devices", "volumes"}


def test_the_image_runs_as_the_user_of_kubernetes_from_one_base_image() -> None:
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    pod, _ = deployment()
    context = pod["securityContext"]
    assert re.findall(r"^USER (.*)$", dockerfile, flags=re.MULTILINE) == [
        f"{context['runAsUser']}:{context['runAsGroup']}"
    ]
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", dockerfile, flags=re.MULTILINE)
    assert stages == [("${PYTHON_IMAGE}", "build"), ("${PYTHON_IMAGE}", "server"), ("server", "")]
    assert not re.search(r"\b(apt-get|curl|wget|ADD)\b", dockerfile), "what is downloaded must be locked"


def test_the_image_gets_the_locks() -> None:
    """The files that the Dockerfile copies are not excluded from what Docker sees."""
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    seen = set(re.findall(r"^!(\S+)$", (DEPLOY / "docker/Dockerfile.dockerignore").read_text(), flags=re.MULTILINE))
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, flags=re.MULTILINE)
        for name in line.split()
    }
    assert copied == seen
    locks = set(re.findall(r"[\w-]+\.lock", dockerfile))
    assert locks == {"serve.lock", "serve-gpu.lock", "build.lock"}
    assert all((DEPLOY.parent / "requirements" / lock).exists() for lock in locks)


def test_read_only_containers_have_room_for_the_private_copy_of_a_bundle() -> None:
    pod, container = deployment()
    assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    compose = yaml.safe_load((DEPLOY / "docker/compose.yaml").read_text())["services"]["dragoman"]
    assert compose["tmpfs"] == ["/tmp"]
