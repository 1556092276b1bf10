/** Panels that every process has, gateway or storage node. */
import { HERE, type Panel, rate, timeseries } from "./panel.ts";

/** `job` chooses the processes, such as `minikv-node`. */
export function processPanels(job: string): readonly Panel[] {
  const labels = `job=~"${job}", ${HERE}`;
  return [
    timeseries("CPU", "percentunit", [
      { expr: rate("process_cpu_seconds_total", labels), legend: "{{instance}}" },
    ]),
    timeseries("Event loop busy", "percentunit", [
      {
        expr: rate("minikv_event_loop_active_seconds_total", labels),
        legend: "{{instance}} {{thread}}",
      },
    ]),
    timeseries("Memory", "bytes", [
      { expr: `process_resident_memory_bytes{${labels}}`, legend: "{{instance}}" },
    ]),
    timeseries(
      "Event-loop delay (p99)",
      "s",
      [
        {
          expr: `minikv_event_loop_delay_seconds{quantile="0.99", ${labels}}`,
          legend: "{{instance}} {{thread}}",
        },
      ],
      { description: "How late 1 in 100 turns comes.", redFrom: 0.2 },
    ),
    timeseries("Slow operations", "ops", [
      { expr: rate("minikv_slow_operations_total", labels), legend: "{{instance}} {{thread}}" },
    ]),
  ];
}
