/** What the service refused or could not do, in its own words. */
export class OurVidzError extends Error {
  constructor(
    message: string,
    readonly status: number,
    /** Stable, for programs: `INVALID_PARAMETERS`, `QUEUE_FULL`, …; empty where the answer is not the service's. */
    readonly code: string,
    readonly details: ReadonlyArray<{ field: string; rule: string; message: string }> = [],
    readonly requestId?: string,
    /** When trying again makes sense. */
    readonly retryAfterSeconds?: number,
  ) {
    super(message);
    this.name = 'OurVidzError';
  }

  /** Whether the same request may succeed later. */
  get isTemporary(): boolean {
    return [408, 425, 429, 502, 503, 504].includes(this.status);
  }
}

/** No answer came, or it broke off. */
export class ConnectionError extends Error {
  constructor(
    /** Origin of the service. */
    readonly url: string,
    message: string,
    options: { cause: unknown },
  ) {
    super(message, options);
    this.name = 'ConnectionError';
  }
}

/** Reads the service's error out of an answer that is not 2xx; `/enhance` has a shape of its own. */
export async function errorOf(response: Response): Promise<OurVidzError> {
  const text = await response.text().catch(() => '');
  const retryAfter = Number(response.headers.get('retry-after') ?? NaN);
  const rest = [
    response.headers.get('x-request-id') ?? undefined,
    Number.isFinite(retryAfter) ? retryAfter : undefined,
  ] as const;
  const plain = `answered ${response.status}`;
  try {
    const { message, error, code, details } = JSON.parse(text) as {
      message?: string;
      error?: string;
      code?: string;
      details?: OurVidzError['details'];
    };
    return new OurVidzError(message ?? error ?? plain, response.status, code ?? '', details ?? [], ...rest);
  } catch {
    return new OurVidzError(`${plain}: ${text.slice(0, 200)}`, response.status, '', [], ...rest);
  }
}
