from pathlib import Path

from scripts.serving.container import STATE
from scripts.shipping.validate import AUTOSCALING, adapter_queries, facts
from scripts.torchserve.config import addresses, read_config

ROOT = Path(__file__).parents[4]


def test_a_query_is_the_adapters_template_filled_in(tmp_path: Path) -> None:
    (tmp_path / AUTOSCALING).mkdir(parents=True)
    (tmp_path / AUTOSCALING / "prometheus-adapter.yaml").write_text("""
rules:
  custom:
    - seriesQuery: 'seen_total{namespace!="",pod!=""}'
      resources: {overrides: {namespace: {resource: namespace}, pod: {resource: pod}}}
      name: {as: seen}
      metricsQuery: 'sum by (<<.GroupBy>>) (rate(<<.Series>>{<<.LabelMatchers>>}[1m]))'
""")
    assert adapter_queries(tmp_path) == {
        "seen": 'sum by (namespace, pod) (rate(seen_total{namespace!="",pod!=""}[1m]))'
    }


def test_the_facts_come_from_their_homes() -> None:
    found = facts(ROOT)
    assert f'version = "{found.version}"' in (ROOT / "pyproject.toml").read_text()
    assert found.ports == addresses(read_config(ROOT / "config.properties")).ports()
    assert found.startup_s >= 300
    assert found.metrics == {"image_classifier_requests_waiting"}
    assert f"--uid {found.user} " in (ROOT / "docker" / "Dockerfile").read_text()
    assert found.state == str(STATE)
