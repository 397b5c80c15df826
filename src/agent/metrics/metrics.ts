/**
 * What `/metrics` says. Names are istio-cni's where the same thing is counted, so that its dashboards and alerts go on working; our own
 * begin with culvert_. Labels have few values: pods are told apart only when it is asked for.
 */
import { Counter, createRegistry, Gauge, Histogram, type Registry } from '../../base/metrics.ts';

/** Seconds; a pod joins in a few milliseconds, an API call takes ten, a tunnel that starts a second. */
const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export class AgentMetrics {
  readonly registry: Registry;
  readonly reconcileEvents: Counter<'type'>;
  readonly pluginRequests: Counter<'response_code'>;
  readonly cniDuration: Histogram<'verb'>;
  readonly enrolmentDuration: Histogram<'until'>;
  readonly stepFailures: Counter<'step' | 'code'>;
  readonly zdsRequests: Counter<'request' | 'result'>;
  readonly sourceErrors: Counter;
  readonly lastSnapshot: Gauge;
  readonly kubernetesRequests: Counter<'verb' | 'code'>;
  readonly kubernetesDuration: Histogram<'verb'>;

  constructor(version: string) {
    const registry = (this.registry = createRegistry(version));
    const registers = [registry];
    this.reconcileEvents = new Counter({
      name: 'nodeagent_reconcile_events_total',
      help: "Changes of this node's pods that the source told of.",
      labelNames: ['type'],
      registers,
    });
    this.pluginRequests = new Counter({
      name: 'istio_cni_plugin_requests_total',
      help: 'Requests of the CNI plugin, by HTTP status.',
      labelNames: ['response_code'],
      registers,
    });
    this.cniDuration = new Histogram({
      name: 'culvert_cni_request_duration_seconds',
      help: 'Time that the agent took for a request of the CNI plugin.',
      labelNames: ['verb'],
      buckets: SECONDS,
      registers,
    });
    this.enrolmentDuration = new Histogram({
      name: 'culvert_enrolment_duration_seconds',
      help: 'From the label or ADD that wants a pod in, until its traffic is redirected (active) and its annotation says so (annotated).',
      labelNames: ['until'],
      buckets: SECONDS,
      registers,
    });
    this.stepFailures = new Counter({
      name: 'culvert_enrolment_step_failures_total',
      help: 'Steps of enrolling or letting go of a pod that failed, by error code.',
      labelNames: ['step', 'code'],
      registers,
    });
    this.zdsRequests = new Counter({
      name: 'culvert_zds_requests_total',
      help: 'Pods told to the tunnel (add) and taken back (del), by result: ack or an error code.',
      labelNames: ['request', 'result'],
      registers,
    });
    this.sourceErrors = new Counter({
      name: 'culvert_source_errors_total',
      help: 'Faults of the source; the last good state stays in use.',
      registers,
    });
    this.lastSnapshot = new Gauge({
      name: 'culvert_source_last_event_timestamp_seconds',
      help: 'When the source told of a change last.',
      registers,
    });
    this.kubernetesRequests = new Counter({
      name: 'culvert_kubernetes_requests_total',
      help: 'Requests to the Kubernetes API, by HTTP status; 0: no answer.',
      labelNames: ['verb', 'code'],
      registers,
    });
    this.kubernetesDuration = new Histogram({
      name: 'culvert_kubernetes_request_duration_seconds',
      help: 'Time until the answer of the Kubernetes API; for a watch, until it ended.',
      labelNames: ['verb'],
      buckets: SECONDS,
      registers,
    });
    for (const type of ['add', 'update', 'delete']) this.reconcileEvents.inc({ type }, 0);
  }
}
