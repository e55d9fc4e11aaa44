/** The five checks of the reference, by their contract names (spec 8; what they mean here is stated in `openapi.yaml`). */
export type CheckName = 'environment_variables' | 'model_paths' | 'gpu_availability' | 'python_dependencies' | 'worker_scripts';
export const checkNames: readonly CheckName[] = ['environment_variables', 'model_paths', 'gpu_availability', 'python_dependencies', 'worker_scripts'];

/** `error`: jobs will fail; `warning`: works, with less than there could be. */
export type Severity = 'ok' | 'warning' | 'error';

/** One thing that was looked at. What is not ok says what to do. */
export interface Finding {
  check: CheckName;
  /** What was looked at: a variable, a folder, a package, a server. */
  subject: string;
  severity: Severity;
  message: string;
  cure?: string;
  /** Round trip, for servers. */
  latencyMs?: number;
}

export type Check = (signal: AbortSignal) => Promise<Finding[]>;

export interface ValidationReport {
  valid: boolean;
  /** True unless something under that name is an error. */
  checks: Record<CheckName, boolean>;
  findings: Finding[];
}
