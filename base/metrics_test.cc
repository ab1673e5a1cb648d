#include "base/metrics.h"

#include <gtest/gtest.h>

namespace keelson {
namespace {

TEST(MetricsTest, RendersPrometheusText) {
  MetricsRegistry registry;
  registry.GetCounter("requests_total", "Requests.", {{"code", "200"}}).Add(2);
  registry.GetCounter("requests_total", "Requests.", {{"code", "200"}}).Add();
  registry.GetGauge("pods", "Pods.").Set(6);
  Histogram& latency = registry.GetHistogram("latency_seconds", "Latency.", {0.1, 1});
  latency.Observe(0.05);
  latency.Observe(0.1);
  latency.Observe(5);
  EXPECT_EQ(
      registry.Render(),
      "# HELP latency_seconds Latency.\n# TYPE latency_seconds histogram\n"
      "latency_seconds_bucket{le=\"0.1\"} 2\nlatency_seconds_bucket{le=\"1\"} 2\n"
      "latency_seconds_bucket{le=\"+Inf\"} 3\nlatency_seconds_sum 5.15\nlatency_seconds_count 3\n"
      "# HELP pods Pods.\n# TYPE pods gauge\npods 6\n"
      "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{code=\"200\"} 3\n");
}

}  // namespace
}  // namespace keelson
