/** Generated from openapi.yaml by `npm run build`; do not edit. */
export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * What this is and where to go
         * @description To who accepts HTML, the console.
         */
        get: operations["getService"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/console/{file}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What the console's page is made of */
        get: operations["getConsoleFile"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Is the process alive?
         * @description Answered by the event loop and the supervisor alone. A busy worker is healthy.
         */
        get: operations["getHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ready": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Can it take jobs now? */
        get: operations["getReady"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Measurements for Prometheus */
        get: operations["getMetrics"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This document for people */
        get: operations["getDocs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/capabilities": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Job types, limits, models, devices, and what is off and why */
        get: operations["getCapabilities"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/tokens": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * A key for a page: for one user, a few scopes, a while
         * @description Sent as `Authorization: Bearer <token>`; for events and assets also as `?token=`. It is signed and nowhere stored: replacing the
         *     key that made it ends it. What belongs to other users is not there for it.
         */
        post: operations["createToken"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who is signed in */
        get: operations["getSession"];
        put?: never;
        /**
         * Sign a browser in
         * @description Sent with a key, a token, or the code of a login link in place of the key. The answer sets a cookie (`HttpOnly`, `SameSite=Strict`) that
         *     then stands for the key in this browser, for pages of this service alone. What changes something also needs `csrf_token` as header
         *     `x-csrf-token`.
         */
        post: operations["createSession"];
        /** Sign out */
        delete: operations["deleteSession"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/session/links": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A link that signs a browser in, once */
        post: operations["createLoginLink"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Jobs, newest first
         * @description What producers pushed to a shared queue and no worker has begun stands first. A page may be shorter than `limit`, even empty, while there is a
         *     `next_cursor`: a search looks at 500 jobs for each.
         */
        get: operations["listJobs"];
        put?: never;
        /**
         * Submit a job
         * @description The body is what producers push to the queue; `id` may be missing. The same body with the same `id` twice is one job, and so
         *     is the same `Idempotency-Key` with the same body. An `id` that belongs to another job (another type, user or content), and a
         *     key that came with another body, are refused (409).
         */
        post: operations["createJob"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        /** One job */
        get: operations["getJob"];
        put?: never;
        post?: never;
        /**
         * Cancel a job
         * @description Idempotent. 202 while a running job is being stopped, 200 once it is over, however it ended. What attempts at a cancelled job have stored is removed.
         */
        delete: operations["cancelJob"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/{id}/assets": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Delete the files of a job that is over
         * @description Idempotent. Its record stays; 409 while it waits or runs.
         */
        delete: operations["deleteJobAssets"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Cancel many jobs
         * @description Those that wait or run and meet all that is named; at least one filter has to be. The answer says whether to call again.
         */
        post: operations["cancelJobs"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Events of all jobs as they happen
         * @description Server-sent events: `state` of every job that anybody runs, `progress`, and `preview` of jobs that run in the instance asked. A token's user is told of his own jobs. The stream
         *     has no end. Everything that happens once the answer has begun is told; reconnect with `Last-Event-ID` (or `last_event_id`) to be told the states in between, of the last 5,000.
         *     `reset`: that is no longer possible, or the reader was too slow; `GET /jobs` says how things stand.
         */
        get: operations["followJobs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/queues": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What waits, for how long, and what holds it */
        get: operations["listQueues"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/queues/{queue}/pause": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Take no more jobs from a queue
         * @description Holds for all its workers, over restarts. Jobs are accepted and wait; what runs goes on. Idempotent.
         */
        post: operations["pauseQueue"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/queues/{queue}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Take jobs from a queue again */
        post: operations["resumeQueue"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/instances/{worker_id}/drain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Let an instance finish and take no more
         * @description It stays up. `self` is the instance asked; others are those of `GET /worker/status?scope=cluster`. Idempotent.
         */
        post: operations["drainInstance"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/instances/{worker_id}/resume": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Let an instance take jobs again */
        post: operations["resumeInstance"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/jobs/{id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Events of a job as they happen
         * @description Server-sent events `state`, `progress` and `preview`; the stream ends with the terminal state. Reconnect with
         *     `Last-Event-ID` to miss nothing that is still kept. Of a job that was put back in line after it failed, the new run is told.
         */
        get: operations["followJob"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/references": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Upload a picture that jobs go by
         * @description Kept for `REFERENCE_RETENTION_SECONDS` as a PNG of at most 2048 pixels a side, for jobs of this user alone. `user_id` stands before
         *     `file`; with a token it may be left out.
         */
        post: operations["createReference"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/assets/{bucket}/{path}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * A finished file
         * @description Only with folder storage, except thumbnails; `path` may contain slashes. With `size` a WebP of it whose longer side is no longer than that many pixels, of a video its still.
         */
        get: operations["getAsset"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        /** What a finished file is, without it */
        head: operations["headAsset"];
        patch?: never;
        trace?: never;
    };
    "/enhance": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** A more detailed prompt */
        post: operations["enhancePrompt"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/enhance/sessions/{session_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Forget a conversation */
        delete: operations["deleteEnhanceSession"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/test-compel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** What prompt weights would do */
        post: operations["testCompel"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/worker/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** State of the workers */
        get: operations["getWorkerStatus"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/worker/resources": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** GPU, memory and queues */
        get: operations["getWorkerResources"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/worker/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** How the last hour of this instance was */
        get: operations["getWorkerHistory"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/worker/validate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Is everything there that jobs need? What is not says what to do */
        get: operations["validateWorker"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/worker/restart/{worker_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Restart a worker
         * @description Finishes its job first, unless `force=true`.
         */
        post: operations["restartWorker"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/worker/{worker_id}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Last log lines of a worker's process */
        get: operations["getWorkerLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/dead-letters": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Payloads that were given up, newest first */
        get: operations["listDeadLetters"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/dead-letters/reasons": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Why payloads were given up, and how many for each reason */
        get: operations["listDeadLetterReasons"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/dead-letters/requeue": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Put many payloads back on their queues
         * @description All that meet what is named, oldest first; at least one filter has to be. `kept`: of what was larger than 1 MiB only the beginning is there.
         */
        post: operations["requeueDeadLetters"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/dead-letters/drop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Forget many payloads for good */
        post: operations["dropDeadLetters"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/dead-letters/{id}/requeue": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Put a payload back on its queue
         * @description 409 for what was larger than 1 MiB, of which only the beginning was kept.
         */
        post: operations["requeueDeadLetter"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/dead-letters/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /** Forget a payload for good */
        delete: operations["dropDeadLetter"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/callbacks": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Callbacks on their way, and those that were given up */
        get: operations["listCallbacks"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/callbacks/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Send again what was given up: all, or one */
        post: operations["retryCallbacks"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export interface webhooks {
    jobCallback: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * What becomes of a job
         * @description Posted to `CALLBACK_URL`, at least once; drop what you have seen by its `webhook-id`. docs/callbacks.md has the headers.
         */
        post: operations["jobCallback"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export interface components {
    schemas: {
        Error: {
            statusCode: number;
            /** @description Stable; programs compare this */
            code: string;
            /** @description The status in words */
            error: string;
            message: string;
            request_id: string;
            details?: {
                field: string;
                rule: string;
                message: string;
            }[];
        };
        /**
         * @description `enhance`: prompts and their conversations; `jobs`: jobs, their events, assets and references
         * @enum {string}
         */
        TokenScope: "enhance" | "jobs";
        TokenRequest: {
            /**
             * Format: uuid
             * @description Whose jobs it is for
             */
            user_id: string;
            scopes: components["schemas"]["TokenScope"][];
            /**
             * @description seconds
             * @default 900
             */
            expires_in: number;
        };
        Token: {
            token: string;
            /** Format: uuid */
            user_id: string;
            scopes: components["schemas"]["TokenScope"][];
            /** @description seconds */
            expires_in: number;
            /** Format: date-time */
            expires_at: string;
        };
        Session: {
            /** @description The name of the key */
            caller: string;
            scopes: ("jobs" | "enhance" | "status" | "operate")[];
            /** @description The one user it is for; null for a key, which sees those of everybody */
            user_id: string | null;
            /** @description For `x-csrf-token`; null where no cookie was sent */
            csrf_token: string | null;
            /** Format: date-time */
            expires_at: string | null;
        };
        LoginLink: {
            /** @description Below the address of this service */
            link: string;
            /** @description seconds */
            expires_in: number;
        };
        /** @enum {string} */
        JobType: "sdxl_image_fast" | "sdxl_image_high" | "image_fast" | "image_high" | "video_fast" | "video_high" | "image7b_fast_enhanced" | "image7b_high_enhanced" | "video7b_fast_enhanced" | "video7b_high_enhanced";
        /** @enum {string} */
        QueueName: "sdxl_queue" | "wan_queue";
        /** @enum {string} */
        JobStatus: "queued" | "processing" | "completed" | "failed" | "cancelled";
        /**
         * Format: text
         * @description `format: text`: no NUL, no half of a surrogate pair
         */
        Prompt: string;
        /**
         * Format: reference
         * @description A picture (PNG, JPEG, WebP, GIF, AVIF): an https address; `asset:JOB_ID/N`, the n-th asset of a finished job of the same user, from 0;
         *     a file in storage: `reference_images/…`, `workspace_assets/…`, what `POST /references` answered, what `assets` or `asset_paths` of
         *     the same user's job list, an object's address in our Supabase; or a `data:` address, as far as the payload's 1 MiB go.
         */
        ReferenceUrl: string | null;
        ReferenceStrength: number | null;
        Seed: number | null;
        /**
         * @description At most 1 MiB of UTF-8. Unknown fields are kept and ignored; missing, `null` and an empty string mean the same for every
         *     optional field. Ids are compared without regard to case, and given back as they were written.
         */
        JobPayload: components["schemas"]["SdxlJob"] | components["schemas"]["WanJob"];
        SdxlJob: {
            /** Format: uuid */
            id?: string;
            /** @enum {string} */
            type: "sdxl_image_fast" | "sdxl_image_high";
            prompt: components["schemas"]["Prompt"];
            /** Format: uuid */
            user_id: string;
            compel_enabled?: boolean | null;
            /**
             * Format: text
             * @example (beautiful:1.3), (garden:1.1)
             */
            compel_weights?: string | null;
            config?: {
                /** @enum {integer|null} */
                num_images?: 1 | 3 | 6 | null;
                seed?: components["schemas"]["Seed"];
                /** @description pixels */
                width?: number | null;
                /** @description pixels */
                height?: number | null;
                /** Format: text */
                negative_prompt?: string | null;
                /** @description Tokens with weights, timesteps, times per stage and cache use into `metadata.explain` of GET /jobs/{id}; callbacks leave it out */
                explain?: boolean | null;
            } | null;
            metadata?: {
                reference_image_url?: components["schemas"]["ReferenceUrl"];
                /** @enum {string|null} */
                reference_type?: "style" | "composition" | "character" | null;
                reference_strength?: components["schemas"]["ReferenceStrength"];
            } | null;
        };
        WanJob: {
            /** Format: uuid */
            id?: string;
            /** @enum {string} */
            type: "image_fast" | "image_high" | "video_fast" | "video_high" | "image7b_fast_enhanced" | "image7b_high_enhanced" | "video7b_fast_enhanced" | "video7b_high_enhanced";
            prompt: components["schemas"]["Prompt"];
            /** Format: uuid */
            user_id: string;
            config?: {
                image?: components["schemas"]["ReferenceUrl"];
                first_frame?: components["schemas"]["ReferenceUrl"];
                last_frame?: components["schemas"]["ReferenceUrl"];
                /** @description Rounded down to 4n+1; 83 means 81 */
                frame_num?: number | null;
                /** @description With a reference, its strength decides instead: 5 + 4 × strength */
                sample_guide_scale?: number | null;
                sample_shift?: number | null;
                /** @enum {string|null} */
                sample_solver?: "unipc" | "dpm++" | "euler" | null;
                sample_steps?: number | null;
                seed?: components["schemas"]["Seed"];
                /** @description width*height in pixels; multiples of 16 up to 2048 */
                size?: string | null;
                /**
                 * @description Of no effect; the job's type decides
                 * @enum {string|null}
                 */
                content_type?: "image" | "video" | null;
                /** @description seconds */
                expected_time?: number | null;
                /** @description Tokens with weights, timesteps, times per stage and cache use into `metadata.explain` of GET /jobs/{id}; callbacks leave it out */
                explain?: boolean | null;
            } | null;
            metadata?: {
                reference_image_url?: components["schemas"]["ReferenceUrl"];
                start_reference_url?: components["schemas"]["ReferenceUrl"];
                end_reference_url?: components["schemas"]["ReferenceUrl"];
                reference_strength?: components["schemas"]["ReferenceStrength"];
                /** @enum {string|null} */
                enhancement_type?: "base" | "chat" | "instruct_chat" | null;
                /** Format: text */
                session_id?: string | null;
                /** Format: text */
                conversation_context?: string | null;
            } | null;
        };
        JobAccepted: {
            /** Format: uuid */
            id: string;
            status: components["schemas"]["JobStatus"];
            /** @description Jobs in front of it */
            queue_position: number;
        };
        JobProgress: {
            stage: string;
            step: number;
            steps: number;
            fraction: number;
            eta_seconds: number | null;
        };
        Job: {
            /** Format: uuid */
            id: string;
            /** @description A JobType; of a payload on a queue that was refused for its type, what it said there, or empty */
            type: string;
            queue: components["schemas"]["QueueName"];
            user_id: string;
            /** @description As its user wrote it; listings show the first 300 characters */
            prompt: string;
            /** @description What it asks for, to ask for it again: prompt, compel_enabled, compel_weights, config, metadata; texts of more than 2,000 characters are left out. Not in listings */
            request?: {
                [key: string]: unknown;
            };
            status: components["schemas"]["JobStatus"];
            /**
             * Format: date-time
             * @description Since when it is in its status
             */
            since: string;
            queue_position: number | null;
            /** @description Why a queued job waits */
            waiting: null | components["schemas"]["JobWaiting"];
            /** @description The instance that runs it or ran it last; not for tokens */
            worker_id?: string;
            /** @description Why the attempt before ended; not for tokens */
            last_error?: string;
            /** @description The last 10 attempts that have ended, oldest first; not for tokens */
            history?: components["schemas"]["EndedAttempt"][];
            progress: components["schemas"]["JobProgress"];
            attempts: number;
            assets: string[];
            error_message?: string;
            /** @description As in the terminal callback */
            metadata: {
                [key: string]: unknown;
            };
            /** Format: date-time */
            created_at: string;
            /** Format: date-time */
            started_at?: string;
            /** Format: date-time */
            finished_at?: string;
        };
        JobWaiting: {
            /** @enum {string} */
            code: "next" | "behind" | "retry" | "queue_paused" | "no_worker";
            message: string;
            ahead: number | null;
            /** @description By what jobs of its queue took until now; null where nobody knows */
            starts_in_seconds: number | null;
            /** Format: date-time */
            retry_at?: string;
        };
        EndedAttempt: {
            attempt: number;
            /**
             * @description `handed_back`: by a worker that could not go on, uncounted; `lost`: its worker was gone
             * @enum {string}
             */
            outcome: "completed" | "failed" | "cancelled" | "retried" | "handed_back" | "lost";
            worker_id?: string;
            /** Format: date-time */
            started_at: string;
            /** Format: date-time */
            ended_at: string;
            error?: string;
        };
        /** Format: text */
        SearchText: string;
        /** Format: text */
        EventId: string;
        /**
         * @description pixels
         * @enum {integer}
         */
        ThumbnailSize: 64 | 128 | 256 | 512;
        /** Format: text */
        InstanceId: string;
        JobSelection: {
            /** @enum {string} */
            status?: "queued" | "processing";
            type?: components["schemas"]["JobType"];
            queue?: components["schemas"]["QueueName"];
            /** Format: uuid */
            user_id?: string;
            text?: components["schemas"]["SearchText"];
            ids?: string[];
            /** @description Of one call; 1,000 where it is not said */
            limit?: number;
        };
        JobsCancelled: {
            /** @description That waited */
            cancelled: number;
            /** @description That run, and were told to stop */
            stopping: number;
            /** @description There may be more */
            more: boolean;
        };
        HoldRequest: {
            /**
             * Format: text
             * @description For whoever wonders
             */
            reason?: string;
        };
        Hold: {
            /** Format: date-time */
            since: string;
            /** @description Name of the key it was asked with */
            by: string;
            reason?: string;
        };
        Queues: {
            queues: components["schemas"]["QueueState"][];
        };
        QueueState: {
            queue: components["schemas"]["QueueName"];
            paused: null | components["schemas"]["Hold"];
            waiting: number;
            /** @description Waiting for the time of their next attempt */
            delayed: number;
            running: number;
            oldest_age_seconds: number | null;
            /** @description What one job takes on average; null before the first */
            job_seconds: number | null;
            /** @description When the last of them is begun */
            empty_in_seconds: number | null;
            /** @description Instances that take from it now */
            takers: number;
            /** @description Why nobody does */
            trouble?: string;
        };
        InstanceState: {
            worker_id: string;
            draining: null | components["schemas"]["Hold"];
        };
        DeadLetterReasons: {
            reasons: {
                /** @description What they have in common: ids and numbers are `…` */
                reason: string;
                queue: components["schemas"]["QueueName"];
                count: number;
                /** Format: date-time */
                oldest_at: string;
                /** Format: date-time */
                newest_at: string;
            }[];
        };
        DeadLetterSelection: {
            /**
             * Format: text
             * @description Of `GET /dead-letters/reasons`: that one alone; or a part, in any case: all that contain it
             */
            reason?: string;
            queue?: components["schemas"]["QueueName"];
            ids?: string[];
            /** @description Of one call; 1,000 where it is not said */
            limit?: number;
        };
        DeadLettersDone: {
            done: number;
            kept: number;
            /** @description There are more of them */
            more: boolean;
        };
        /** @description One event of the stream of all jobs; its data is JSON */
        AnyJobEvent: {
            event?: string;
            data?: string;
            id?: string;
        } & ({
            /** @constant */
            event: "state";
            data: string;
        } | {
            /** @constant */
            event: "progress";
            data: string;
        } | {
            /** @constant */
            event: "preview";
            data: string;
        } | {
            /** @constant */
            event: "reset";
            data: string;
        });
        AnyJobState: {
            job_id: string;
            type: components["schemas"]["JobType"];
            user_id: string;
            queue: components["schemas"]["QueueName"];
            status: components["schemas"]["JobStatus"];
            attempts: number;
            assets: string[];
            error_message?: string;
            /** Format: date-time */
            at: string;
        };
        AnyJobProgress: {
            job_id: string;
            stage: string;
            step: number;
            steps: number;
            fraction: number;
            eta_seconds: number | null;
        };
        AnyJobPreview: {
            job_id: string;
            image: number;
            images: number;
            step: number;
            content_type: string;
            base64: string;
        };
        Reset: Record<string, never>;
        /** @description One event of a job's stream; its data is JSON */
        JobEvent: {
            event?: string;
            data?: string;
            id?: string;
        } & ({
            /** @constant */
            event: "state";
            data: string;
        } | {
            /** @constant */
            event: "progress";
            data: string;
        } | {
            /** @constant */
            event: "preview";
            data: string;
        });
        JobStateEvent: {
            status: components["schemas"]["JobStatus"];
            attempts: number;
            assets: string[];
            error_message?: string;
        };
        JobPreviewEvent: {
            /** @description Which of the pictures that the job draws, from 0 on */
            image: number;
            /** @description How many it draws */
            images: number;
            /** @description Over all of them */
            step: number;
            content_type: string;
            base64: string;
        };
        Reference: {
            /** @description For the reference fields of this user's jobs */
            reference: string;
            /** @description pixels */
            width: number;
            /** @description pixels */
            height: number;
            /** @description As it is kept */
            bytes: number;
            /** Format: date-time */
            expires_at: string;
        };
        /** @description What is posted to `CALLBACK_URL`, signed when there is a `CALLBACK_SECRET` */
        JobCallback: {
            /** @description As the producer wrote it */
            job_id: string;
            /** @enum {string} */
            status: "processing" | "completed" | "failed";
            assets: string[];
            error_message?: string;
            metadata: {
                [key: string]: unknown;
            };
        };
        JobPage: {
            jobs: components["schemas"]["Job"][];
            next_cursor?: string;
        };
        Service: {
            /** @constant */
            service: "ourvidz-worker";
            description: string;
            worker_version: string;
            /** @description Addresses of this service, by what is there */
            links: {
                [key: string]: string;
            };
        };
        Health: {
            /** @enum {string} */
            status: "healthy" | "degraded" | "unhealthy";
            qwen_loaded: boolean;
            /** @description Seconds since 1970 with fraction */
            timestamp: number;
            worker_ready: boolean;
        };
        Readiness: {
            ready: boolean;
            /** @description In sentences; what keeps it from being ready first */
            reasons: string[];
            /** @description As in `/worker/status`, without folders and addresses */
            troubles: components["schemas"]["Trouble"][];
        };
        /** @description Something that is wrong, and what to do */
        Trouble: {
            /** @description Stable; programs compare this. docs/operations.md lists them */
            code: string;
            /**
             * @description `critical`: no jobs are taken, `/ready` answers 503; `error`: a part does not work, `/health` is degraded; `warning`: works, with less than there could be, or not for long
             * @enum {string}
             */
            severity: "critical" | "error" | "warning";
            what: string;
            cause: string;
            cure: string;
            /** Format: date-time */
            since: string;
            /**
             * Format: date-time
             * @description When the service itself tries again
             */
            next_try_at?: string;
            /** @description What it is about: an engine (sdxl, wan, qwen), a queue, DATA_DIR, … */
            target?: string;
        };
        Capabilities: {
            worker_version: string;
            /** @enum {string} */
            queue: "embedded" | "redis";
            /** @enum {string} */
            storage: "folder" | "supabase";
            job_types: {
                [key: string]: {
                    queue: components["schemas"]["QueueName"];
                    /** @enum {string} */
                    engine: "sdxl" | "wan";
                    available: boolean;
                    /** @enum {string} */
                    output: "image" | "video";
                    steps: number;
                    guidance_scale: number;
                    scheduler: string;
                    image_counts: number[];
                    enhanced: boolean;
                    bucket: string;
                    expected_seconds: number[];
                };
            };
            limits: {
                prompt_characters: number;
                width_pixels: components["schemas"]["Range"];
                height_pixels: components["schemas"]["Range"];
                frames: components["schemas"]["Range"];
                body_bytes: number;
                compel_weights: number;
                /** @description Per queue; 0 means no limit */
                waiting_jobs: number;
            };
            engines: {
                [key: string]: {
                    available: boolean;
                    state: string;
                    reason?: string;
                    /** @enum {string|null} */
                    device: "cuda" | "webgpu" | "cpu" | null;
                    model: string | null;
                    features: string[];
                    /** @description Devices that were not taken, each with its cure */
                    device_notes: string[];
                    /** @description What a small model knows; absent for one that is taken to know what people ask for */
                    world?: {
                        /** @description For people: what it draws, and how to get real pictures */
                        sentence: string;
                        examples: string[];
                        words: string[];
                        native_size: {
                            width: number;
                            height: number;
                        };
                        native_frames?: number;
                    };
                };
            };
            features_off: {
                feature: string;
                reason: string;
            }[];
            /** @description Prompt templates a request to `/enhance` may name */
            templates?: {
                name: string;
                strategy: string;
                target: string;
                version: string;
            }[];
        };
        Range: {
            minimum: number;
            maximum: number;
            multiple_of?: number;
        };
        /** @description Missing, `null` and an empty string mean the same for every optional field */
        EnhanceRequest: {
            prompt: components["schemas"]["Prompt"];
            /**
             * @description `qwen_base` completes a template, `qwen_instruct` talks; without `session_id` it is `qwen_base` too
             * @enum {string|null}
             */
            model?: "qwen_base" | "qwen_instruct" | null;
            /** @enum {string|null} */
            enhance_type?: "natural_language" | null;
            /**
             * Format: text
             * @description Names a conversation of this API key, or of the user of a token
             */
            session_id?: string | null;
            /** Format: text */
            conversation_context?: string | null;
            stream?: boolean | null;
            max_tokens?: number | null;
            temperature?: number | null;
            seed?: number | null;
            /**
             * @description `image` keeps the answer within the 77 tokens SDXL reads
             * @enum {string|null}
             */
            target?: "image" | "video" | null;
            /** @description One of the templates of /capabilities */
            template?: string | null;
        };
        EnhanceResult: {
            /** @constant */
            success: true;
            enhanced_prompt: string;
            original_prompt: string;
            /** @description `qwen_base` or `qwen_instruct`: what answered */
            enhancement_source: string;
            /** @description seconds */
            processing_time: number;
            /**
             * @description What was asked for; where the request names none, what answered
             * @enum {string}
             */
            model: "qwen_base" | "qwen_instruct";
            /** @description Name of the file that is loaded */
            model_name: string;
            template?: string;
            prompt_tokens?: number;
            completion_tokens?: number;
            attempts?: number;
            /** @description Something else answered than was asked for */
            fallback?: boolean;
            fallback_reason?: string;
        };
        /** @description Every answer of /enhance other than 200; the fields of `Error`, with `error` in words */
        EnhanceFailure: {
            /** @constant */
            success: false;
            /** @description The reason in words */
            error: string;
            /** @description The original; null where it could not be read (no key, no JSON, too large) */
            enhanced_prompt: string | null;
            statusCode: number;
            /** @description Stable; programs compare this */
            code: string;
            message: string;
            request_id: string;
            details?: {
                field: string;
                rule: string;
                message: string;
            }[];
        };
        EnhanceAnswer: components["schemas"]["EnhanceResult"] | components["schemas"]["EnhanceFailure"];
        /** @description One event of a streamed enhancement; its data is JSON */
        EnhanceEvent: {
            event?: string;
            data?: string;
            id?: string;
        } & ({
            /** @constant */
            event: "token";
            data: string;
        } | {
            /** @constant */
            event: "discard";
            data: string;
        } | {
            /** @constant */
            event: "done";
            data: string;
        } | {
            /** @constant */
            event: "error";
            data: string;
        });
        EnhanceToken: {
            text: string;
        };
        EnhanceDiscard: {
            /** @description Why the text so far is void */
            reason: string;
        };
        CompelTest: {
            prompt: components["schemas"]["Prompt"];
            /** Format: text */
            compel_weights?: string | null;
        };
        Weight: {
            text: string;
            weight: number;
            reason?: string;
        };
        /** @description A piece that was dropped, cut, or does not act as it looks */
        PromptNote: {
            field: string;
            text: string;
            note: string;
        };
        CompelReport: {
            prompt: string;
            compel_weights: string | null;
            parsed_weights: components["schemas"]["Weight"][];
            dropped_weights: components["schemas"]["Weight"][];
            /** @description With the weights where they act: a phrase the prompt holds where it stands, others behind it */
            combined_prompt: string;
            prompt_notes: components["schemas"]["PromptNote"][];
            token_count: number;
            token_limit: number;
            tensor_shapes: {
                [key: string]: number[];
            };
            compel_success: boolean;
            compel_error?: string;
            /** @enum {string} */
            enhancement_strategy: "compel" | "fallback" | "none";
            /** @enum {string} */
            final_prompt_type: "conditioning_tensor" | "string";
            tokens?: {
                token: string;
                id: number;
                weight: number;
            }[];
        };
        WorkerStatus: {
            /** @description What is wrong and what to do, worst first; empty: nothing */
            troubles: components["schemas"]["Trouble"][];
            /**
             * @description It answers; how well it is says `health`
             * @constant
             */
            status: "running";
            /**
             * @description As in `/health`
             * @enum {string}
             */
            health: "healthy" | "degraded" | "unhealthy";
            /** @description This instance */
            worker_id?: string;
            /** @description That this instance takes no more jobs */
            draining?: null | components["schemas"]["Hold"];
            workers: {
                sdxl: components["schemas"]["WorkerState"];
                wan: components["schemas"]["WorkerState"];
                qwen?: components["schemas"]["WorkerState"];
            };
            system: {
                /** @description As "48GB"; "0GB" without a GPU, "unknown" when it does not tell */
                gpu_memory_total: string;
                /** @description By the same rule */
                gpu_memory_used: string;
                /** @description As "85%"; "0%" without a GPU, "unknown" when it does not tell */
                gpu_utilization: string;
                /** @description Jobs this instance works on, from fetching references to upload */
                active_jobs: number;
                gpu_memory_total_bytes?: number | null;
                gpu_memory_used_bytes?: number | null;
                gpu_utilization_fraction?: number | null;
            };
            /** @description With `scope=cluster`: every process that shares the queue */
            instances?: {
                worker_id: string;
                host: string;
                pid: number;
                /** Format: date-time */
                started_at: string;
                /** Format: date-time */
                seen_at: string;
                draining?: null | components["schemas"]["Hold"];
                /** @description Health, engines, job types it can run, and running jobs, for display */
                status: {
                    [key: string]: unknown;
                };
            }[];
        };
        WorkerState: {
            /**
             * @description `active` while it serves: ready, busy, or resting until its next request; else as `state`
             * @enum {string}
             */
            status: "active" | "stopped" | "starting" | "warming" | "ready" | "busy" | "draining" | "restarting" | "backing_off" | "failed";
            /** @enum {string} */
            state: "stopped" | "starting" | "warming" | "ready" | "busy" | "draining" | "restarting" | "backing_off" | "failed";
            /** @description seconds */
            uptime: number;
            jobs_processed: number;
            /**
             * Format: date-time
             * @description As "2025-07-23T18:30:00Z"
             */
            last_job_time: string | null;
            /** @description As "12.5GB": device memory where the platform tells, else the memory of the process; "0GB" while none runs, "unknown" before the first report */
            memory_usage: string;
            memory_usage_bytes?: number | null;
            error_count: number;
            restarts?: number;
            reason?: string | null;
            /** @description Stopped until a request needs it */
            resting?: boolean;
            /** @description What is wrong with it, in words; `troubles` has the cause and the cure */
            trouble?: string | null;
            /** @description Its last run: a job, a warm-up, or the check after a failed job whether the device still works */
            last_operation?: {
                ok: boolean;
                /** Format: date-time */
                at: string;
                message: string | null;
            } | null;
        };
        WorkerResources: {
            gpu: {
                /** @description "none" without a GPU */
                name: string;
                /** @description As "48GB"; "0GB" without a GPU, "unknown" when it does not tell; so are the next two */
                memory_total: string;
                memory_used: string;
                memory_free: string;
                /** @description As "85%"; "0%" without a GPU, "unknown" when it does not tell */
                utilization: string;
                /** @description As "72°C"; "unknown" without a GPU, or when it does not tell */
                temperature: string;
                memory_total_bytes?: number | null;
                memory_used_bytes?: number | null;
                memory_free_bytes?: number | null;
                utilization_fraction?: number | null;
                temperature_celsius?: number | null;
            };
            workers: {
                sdxl: components["schemas"]["WorkerMemory"];
                wan: components["schemas"]["WorkerMemory"];
            };
            queues: {
                /** @description Jobs waiting, retries included */
                sdxl_queue: number;
                wan_queue: number;
            };
            /** @description Who is on the card, and what each model is taken to need */
            memory_budget?: {
                /** @description null: not known, nothing is held back */
                capacity_bytes: number | null;
                /** @description Everything loaded, and the work of everything busy */
                committed_bytes: number;
                /** @description Requests that wait for room */
                waiting: number;
                /** @description By engine */
                models: {
                    [key: string]: {
                        resident: boolean;
                        busy: boolean;
                        /** @description While it is loaded; expected, then as measured */
                        resident_bytes: number;
                        /** @description On top of that while it computes */
                        working_bytes: number;
                        /** @description Held as last measured */
                        measured_bytes: number | null;
                    };
                };
            };
        };
        WorkerHistory: {
            samples: {
                /** Format: date-time */
                at: string;
                /** @description Jobs in all queues, retries included */
                waiting: number;
                /** @description Jobs this instance works on */
                running: number;
                /** @description Since the sample before, failed ones included */
                finished: number;
                failed: number;
                /** @description Memory of the service's own process */
                service_bytes: number;
                gpu_bytes: number | null;
                gpu_utilization: number | null;
            }[];
        };
        WorkerMemory: {
            memory_allocated: string;
            memory_allocated_bytes?: number | null;
            model_loaded: boolean;
            queue_size: number;
        };
        WorkerValidation: {
            /** @enum {string} */
            status: "valid" | "invalid";
            checks: {
                /** @description Settings make sense: data folder writable, Redis and Supabase answer */
                environment_variables: boolean;
                model_paths: boolean;
                /** @description True without a GPU too, as long as the models run on the CPU */
                gpu_availability: boolean;
                /** @description The native runtimes this service uses in place of Python packages are installed */
                python_dependencies: boolean;
                /** @description Entry points of the engine processes exist */
                worker_scripts: boolean;
            };
            details: {
                /** @description The runtime in its place: "onnxruntime-node x.y.z" */
                pytorch_version: string;
                /** @description Driver version, or "none" */
                cuda_version: string;
                gpu_memory: string;
                missing_dependencies: string[];
                findings?: {
                    check: string;
                    subject: string;
                    /** @enum {string} */
                    severity: "ok" | "warning" | "error";
                    message: string;
                    cure?: string;
                    latency_ms?: number;
                }[];
            };
        };
        WorkerRestart: {
            /** @constant */
            status: "restarting";
            /** @enum {string} */
            worker_id: "sdxl" | "wan" | "qwen";
            /** Format: date-time */
            restart_time: string;
            /** @description As "30s" */
            estimated_startup_time: string;
            estimated_startup_seconds?: number;
        };
        WorkerLogs: {
            worker_id: string;
            lines: string[];
            /** @description How its process last ended when nobody had ordered that */
            last_exit?: {
                /** Format: date-time */
                at: string;
                reason: string;
                exit_code: number | null;
                signal: string | null;
                /** @description What it was doing, as "denoise 3/15" */
                stage: string | null;
            } | null;
        };
        DeadLetters: {
            dead_letters: {
                id: string;
                queue: components["schemas"]["QueueName"];
                /** @description What the producer pushed, its first 16 KiB at most */
                payload: string;
                /**
                 * @description Of `payload`, where it is no UTF-8
                 * @enum {string}
                 */
                encoding?: "base64";
                /** @description Size of what was pushed; of more than 1 MiB only the beginning is kept */
                payload_bytes: number;
                reason: string;
                job_id?: string;
                attempts: number;
                /** Format: date-time */
                at: string;
            }[];
        };
        DeadLetterAction: {
            id: string;
            /** @enum {string} */
            status: "requeued" | "dropped";
        };
        Callbacks: {
            pending: number;
            dead: {
                id: string;
                job_id: string;
                event: string;
                url: string;
                attempts: number;
                last_error?: string;
                /** Format: date-time */
                created_at: string;
            }[];
        };
    };
    responses: {
        /** @description What is wrong and where */
        Error: {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/json": components["schemas"]["Error"];
            };
        };
    };
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    getService: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Name and addresses, or the console */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Service"];
                    "text/html": string;
                };
            };
            /** @description The console, not modified */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            "4XX": components["responses"]["Error"];
        };
    };
    getConsoleFile: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                file: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The file; its name changes with its content */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/javascript": string;
                    "text/css": string;
                    "font/woff2": string;
                    "image/svg+xml": string;
                };
            };
            /** @description The part of it that `Range` asks for */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/javascript": string;
                    "text/css": string;
                    "font/woff2": string;
                    "image/svg+xml": string;
                };
            };
            /** @description Not modified */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            "4XX": components["responses"]["Error"];
        };
    };
    getHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Alive */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    getReady: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It can */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            /** @description It cannot, and why */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    getMetrics: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Text exposition format */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/plain": string;
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    getDocs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    getCapabilities: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description What this instance can do */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Capabilities"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    createToken: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["TokenRequest"];
            };
        };
        responses: {
            /** @description The token */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Token"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    getSession: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The session, or the key that asks */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Session"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    createSession: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Signed in */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Session"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    deleteSession: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Signed out */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            "4XX": components["responses"]["Error"];
        };
    };
    createLoginLink: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The link */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LoginLink"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    listJobs: {
        parameters: {
            query?: {
                status?: components["schemas"]["JobStatus"];
                type?: components["schemas"]["JobType"];
                queue?: components["schemas"]["QueueName"];
                user_id?: string;
                /** @description Somewhere in the prompt, in any case */
                text?: components["schemas"]["SearchText"];
                /** @description How the id begins */
                id_prefix?: string;
                limit?: number;
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobPage"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    createJob: {
        parameters: {
            query?: never;
            header?: {
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["JobPayload"];
            };
        };
        responses: {
            /** @description Queued, or known already */
            202: {
                headers: {
                    location?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobAccepted"];
                };
            };
            503: components["responses"]["Error"];
            507: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    getJob: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The job */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    cancelJob: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Over */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            /** @description Will end between two steps */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            503: components["responses"]["Error"];
            507: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    deleteJobAssets: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The job without them */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Job"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    cancelJobs: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["JobSelection"];
            };
        };
        responses: {
            /** @description How many */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["JobsCancelled"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    followJobs: {
        parameters: {
            query?: {
                /** @description `false` leaves them out */
                previews?: boolean;
                last_event_id?: components["schemas"]["EventId"];
            };
            header?: {
                "Last-Event-ID"?: components["schemas"]["EventId"];
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The stream; the data of each event is JSON */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["AnyJobEvent"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    listQueues: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Both queues */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Queues"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    pauseQueue: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                queue: components["schemas"]["QueueName"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["HoldRequest"];
            };
        };
        responses: {
            /** @description Paused */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QueueState"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    resumeQueue: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                queue: components["schemas"]["QueueName"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Taken from again */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["QueueState"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    drainInstance: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                worker_id: components["schemas"]["InstanceId"];
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["HoldRequest"];
            };
        };
        responses: {
            /** @description Takes no more */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["InstanceState"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    resumeInstance: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                worker_id: components["schemas"]["InstanceId"];
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Takes jobs again */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["InstanceState"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    followJob: {
        parameters: {
            query?: never;
            header?: {
                "Last-Event-ID"?: string;
            };
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The stream; the data of each event is JSON */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": components["schemas"]["JobEvent"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    createReference: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "multipart/form-data": {
                    /** Format: uuid */
                    user_id?: string;
                    /** @description PNG, JPEG, WebP, GIF or AVIF, of 20 MiB at most */
                    file: string;
                };
            };
        };
        responses: {
            /** @description Stored */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Reference"];
                };
            };
            503: components["responses"]["Error"];
            507: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    getAsset: {
        parameters: {
            query?: {
                size?: components["schemas"]["ThumbnailSize"];
            };
            header?: never;
            path: {
                bucket: string;
                path: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The file */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": string;
                    "image/webp": string;
                    "image/jpeg": string;
                    "video/mp4": string;
                    "application/octet-stream": string;
                };
            };
            /** @description The part of it that `Range` asks for */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "image/png": string;
                    "image/webp": string;
                    "image/jpeg": string;
                    "video/mp4": string;
                    "application/octet-stream": string;
                };
            };
            /** @description Not modified */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    headAsset: {
        parameters: {
            query?: {
                size?: components["schemas"]["ThumbnailSize"];
            };
            header?: never;
            path: {
                bucket: string;
                path: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its type, length and validators */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Those of the part that `Range` asks for */
            206: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description Not modified */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description As GET would answer */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description As GET would answer */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
    enhancePrompt: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["EnhanceRequest"];
            };
        };
        responses: {
            /** @description The enhanced prompt; with `stream: true` events `token` with the text as it is written (`discard` when another attempt begins), then `done` with this JSON (or that of 503), or `error` */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EnhanceResult"];
                    "text/event-stream": components["schemas"]["EnhanceEvent"];
                };
            };
            /** @description No model answered; the original prompt is handed back */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EnhanceFailure"];
                };
            };
            /** @description In the same shape, whatever is wrong */
            "4XX": {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EnhanceFailure"];
                };
            };
        };
    };
    deleteEnhanceSession: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                session_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Forgotten, or never known */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    testCompel: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CompelTest"];
            };
        };
        responses: {
            /** @description Weights, tokens and shapes; never tensor values */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CompelReport"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    getWorkerStatus: {
        parameters: {
            query?: {
                scope?: "instance" | "cluster";
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description State */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerStatus"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    getWorkerResources: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Resources */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerResources"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    getWorkerHistory: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One sample a minute, newest last */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerHistory"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    validateWorker: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The report */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerValidation"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    restartWorker: {
        parameters: {
            query?: {
                force?: boolean;
            };
            header?: never;
            path: {
                worker_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The restart has begun */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerRestart"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    getWorkerLogs: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                worker_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Lines, newest last */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WorkerLogs"];
                };
            };
            "4XX": components["responses"]["Error"];
        };
    };
    listDeadLetters: {
        parameters: {
            query?: {
                queue?: components["schemas"]["QueueName"];
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Dead letters */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetters"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    listDeadLetterReasons: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Reasons, the most frequent first */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetterReasons"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    requeueDeadLetters: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["DeadLetterSelection"];
            };
        };
        responses: {
            /** @description How many */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLettersDone"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    dropDeadLetters: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["DeadLetterSelection"];
            };
        };
        responses: {
            /** @description How many */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLettersDone"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    requeueDeadLetter: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Back */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetterAction"];
                };
            };
            503: components["responses"]["Error"];
            507: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    dropDeadLetter: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Gone */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeadLetterAction"];
                };
            };
            503: components["responses"]["Error"];
            507: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    listCallbacks: {
        parameters: {
            query?: {
                limit?: number;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Callbacks */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Callbacks"];
                };
            };
            503: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    retryCallbacks: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    id?: string;
                };
            };
        };
        responses: {
            /** @description How many are in line again */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": {
                        retried: number;
                    };
                };
            };
            503: components["responses"]["Error"];
            507: components["responses"]["Error"];
            "4XX": components["responses"]["Error"];
        };
    };
    jobCallback: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["JobCallback"];
            };
        };
        responses: {
            /** @description Taken; anything else is tried again */
            "2XX": {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
        };
    };
}
