// Made from the manager's OpenAPI document by `cargo xtask ui --types`.

export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Leads to the page. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description to /ui/ */
                303: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/ui": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Leads to the page. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                /** @description to /ui/ */
                303: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content?: never;
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/alerts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Every alert that is raised now, by subject and name. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_AlertView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/edges": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All edges. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                    /** @description Only those with these labels, as `tier=gold,zone!=b,team,!old`. */
                    labelSelector?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_EdgeView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/edges/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One edge. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["EdgeView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/egress-pools": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All egress pools. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                    /** @description Only those with these labels, as `tier=gold,zone!=b,team,!old`. */
                    labelSelector?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_PoolView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Events, the oldest first. */
        get: {
            parameters: {
                query?: {
                    /**
                     * @description Only those after this number; 410 if some of them are kept no longer. Absent or 0: from the first kept, but with
                     *     `follow` and nothing said from now on.
                     */
                    since?: number;
                    /** @description A stream of JSON lines that goes on. */
                    follow?: boolean;
                    /** @description With `follow`: a line `{"bookmark":NUMBER}` when nothing happened for five seconds. Whoever comes back goes on there. */
                    bookmarks?: boolean;
                    /** @description At most, 1 to 1,000. */
                    limit?: number;
                    /** @description `nextPageToken` of the page before; the same as `since`. */
                    pageToken?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_EventView"];
                    };
                };
                /** @description Kept no longer */
                410: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/explain/{subject}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What a subject wears, every persona that was considered, and where each field of the result comes from. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    subject: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Explanation"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/nodes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All nodes. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                    /** @description Only those with these labels, as `tier=gold,zone!=b,team,!old`. */
                    labelSelector?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_NodeView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/nodes/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One node. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["NodeView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/personas": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All personas at their newest version. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                    /** @description Only those with these labels, as `tier=gold,zone!=b,team,!old`. */
                    labelSelector?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_PersonaView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/personas/{name}/versions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Every version of a persona, oldest first; also of one that was deleted. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                };
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_PersonaView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/plan": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who is planned onto which edge, and how full edges are. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["PlanView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All rollouts under way, and those that were over lately. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_RolloutView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/rollouts/{name}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** One rollout. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path: {
                    name: string;
                };
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["RolloutView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/status": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Who is up, who is behind, who has nothing to wear. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Status"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/web-sessions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All sessions at the page, without their secrets. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_WebSessionView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/whoami": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** As whom the manager knows the sender. */
        get: {
            parameters: {
                query?: never;
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["WhoAmI"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/workloads": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All workloads. */
        get: {
            parameters: {
                query?: {
                    /** @description `nextPageToken` of the page before. */
                    pageToken?: string;
                    /** @description Entries at most, 1 to 1,000. */
                    limit?: number;
                    /** @description Only those with these labels, as `tier=gold,zone!=b,team,!old`. */
                    labelSelector?: string;
                };
                header?: never;
                path?: never;
                cookie?: never;
            };
            requestBody?: never;
            responses: {
                200: {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/json": components["schemas"]["Page_WorkloadView"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "4XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
                /** @description A refusal, with what is wrong and what would be valid */
                "5XX": {
                    headers: {
                        [name: string]: unknown;
                    };
                    content: {
                        "application/problem+json": components["schemas"]["Problem"];
                    };
                };
            };
        };
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * @description What somebody may do.
         * @enum {string}
         */
        AccessRole: "viewer" | "operator" | "author" | "automation" | "admin";
        /** @description `GET /v1/activation/{subject}`: what criteria make of a subject. */
        ActivationView: {
            /** @description What holds a switch back, if something does. */
            heldBack?: string | null;
            /** @description Every persona with rules that it may wear, in order, with every rule and what it sees. */
            personas: components["schemas"]["PersonaStory"][];
            /** @description Why it wears by activation what it wears. Absent: nothing. */
            reason?: string | null;
            /**
             * Format: int64
             * @description Since when. Absent: it wears nothing by activation.
             */
            sinceMs?: number | null;
            /** @description Of whom. */
            subject: components["schemas"]["SubjectId"];
            /**
             * Format: int32
             * @description How often it was switched within the time of its flap budget.
             */
            switchCount: number;
            /**
             * Format: int32
             * @description How often it may be.
             */
            switchCountMax: number;
            /**
             * Format: int64
             * @description That time, milliseconds.
             */
            switchSpanMs: number;
            /** @description Why its rules are not looked at, if they cannot be. */
            trouble?: string | null;
        };
        /** @description One alert as it stands. */
        AlertStory: {
            /** @description Its name. */
            alert: string;
            /** @description Its `clear`, if it has one. */
            clear?: string | null;
            /** @description Whether `when` holds now. */
            holds: components["schemas"]["Truth"];
            /** @description Whether it is raised. */
            isRaised: boolean;
            /** @description Every comparison of `when` and then of `clear`. */
            seen: components["schemas"]["Seen"][];
            /** @description What it waits for, or why it is quiet, in words. */
            verdict: string;
            /** @description Its `when`. */
            when: string;
        };
        /** @description `GET /v1/alerts`: one that is raised. */
        AlertView: {
            /** @description Its name. */
            alert: string;
            /** @description The persona that watches for it. */
            persona: components["schemas"]["PersonaName"];
            /** @description Why, a sentence for people. */
            reason: string;
            /**
             * Format: int64
             * @description Since when.
             */
            sinceMs: number;
            /** @description Of whom. */
            subject: components["schemas"]["SubjectId"];
            /**
             * Format: int32
             * @description That persona's version when the alert was raised.
             */
            version: number;
        };
        /** @description What a subject wears, per section, and why. */
        AssignmentView: {
            /** @description Whether the call changed anything. False from a request that the worn persona already satisfied. */
            changed: boolean;
            /** @description Whether the node (and, for a new lease, every edge) has acknowledged it. */
            inForce: boolean;
            lease?: components["schemas"]["LeaseId"] | null;
            lease6?: components["schemas"]["LeaseId"] | null;
            /** @description Section name → what is worn there. A section that is missing has nothing in force. */
            sections: {
                [key: string]: components["schemas"]["SectionAssignment"];
            };
            /** @description Who. */
            subject: components["schemas"]["SubjectId"];
        };
        BTreeMap: {
            [key: string]: number;
        };
        /** @description Something a persona or an edge offers and a node may ask for, such as `low-latency`. */
        Capability: string;
        /** @description One persona that was considered. */
        Considered: {
            /** @description Whether it is worn. */
            chosen: boolean;
            /** @description What would change the answer. */
            hint?: string | null;
            /** @description Which. */
            persona: components["schemas"]["PersonaName"];
            /** @description Why it could not be chosen; empty if it could. */
            refusals: string[];
            /** @description Score terms by name; the sum decides. */
            scores: {
                [key: string]: number;
            };
            /**
             * Format: int32
             * @description Its version.
             */
            version: number;
        };
        /** @description One edge that was considered. */
        ConsideredEdge: {
            /** @description Whether the subject is planned onto it. */
            chosen: boolean;
            /** @description Which. */
            edge: components["schemas"]["EdgeName"];
            /**
             * Format: double
             * @description How full it would be with the subject on it, 1 is full.
             */
            fullness: number;
            /** @description What would change that it was not chosen. */
            hint?: string | null;
            /** @description What each filter has against it; empty if nothing. */
            refusals: string[];
            /** @description Score terms by name, in points. */
            scores: {
                [key: string]: number;
            };
        };
        /** @description What the data plane counted. */
        Counters: {
            /** @description Edges: everything carried, whichever persona's: what was counted when its process started, and all since. */
            carried?: components["schemas"]["Traffic"];
            /**
             * Format: int32
             * @description Edges: how much of the host's processor time is in use, millionths. It stands here and not in the report itself,
             *     where a manager of an earlier release would refuse it.
             */
            cpuMillionths?: number | null;
            /**
             * Format: int64
             * @description Nodes: flows that were cut since its process started, because their lease's grace was over.
             */
            cutFlows?: number;
            /** @description Drop reason → packets, those of the slow path included. */
            drops: {
                [key: string]: number;
            };
            /**
             * Format: int32
             * @description Edges: how much of it goes into interrupts, in which packets are carried, millionths.
             */
            packetCpuMillionths?: number | null;
            /** @description Per persona, by VNI. */
            personas: {
                [key: string]: components["schemas"]["Traffic"];
            };
            /** @description What the slow path did since its process started. */
            slowPath?: components["schemas"]["SlowPathWork"];
            /** @description Per subject that lives here. */
            subjects: components["schemas"]["SubjectCounters"][];
        };
        /** @description What an edge says that it can carry. */
        EdgeCapacity: {
            /**
             * Format: int64
             * @description Bits per second, both directions together.
             */
            bitsPerSec: number;
            /**
             * Format: int32
             * @description How much of its host's processor time may be in use, percent. Absent: no limit.
             */
            cpuPercent?: number | null;
            /**
             * Format: int64
             * @description Flows at a time. Absent: no limit.
             */
            flowCount?: number | null;
            /**
             * Format: int32
             * @description Leases.
             */
            leaseCount: number;
            /**
             * Format: int64
             * @description Packets per second, both directions together. Absent: no limit.
             */
            packetsPerSec?: number | null;
        };
        /** @description Why a subject is planned onto its edge. */
        EdgeExplanation: {
            /** @description The planned edge, the others by score, those that are refused. */
            considered: components["schemas"]["ConsideredEdge"][];
            /** @description What is reserved for it: rate, packets per second, flows, leases. */
            demand: Record<string, never>;
            edge?: components["schemas"]["EdgeName"] | null;
            /** @description Whether the plan takes effect. */
            mode: components["schemas"]["PlanMode"];
            /** @description A sentence for people. */
            reason: string;
        };
        /** @description What probes to one edge say. */
        EdgeHealth: {
            /** @description Whether it answered lately. */
            alive: boolean;
            /** @description Which edge. */
            edge: components["schemas"]["EdgeName"];
            /** @description The lease-table generation in its last answer. */
            generation: components["schemas"]["Generation"];
            /**
             * Format: int32
             * @description Mean deviation of the round-trip time, microseconds (RFC 6298 §2's RTTVAR).
             */
            jitterUs?: number | null;
            /**
             * Format: float
             * @description Share of the last probes that stayed unanswered, 0 to 1.
             */
            loss: number;
            /**
             * Format: int32
             * @description Smoothed round-trip time, microseconds. Absent before the first answer.
             */
            rttUs?: number | null;
        };
        /** @description What an edge carries now, as it measures it. */
        EdgeLoad: {
            /**
             * Format: int64
             * @description Bits per second of inner IP bytes, both directions together.
             * @default 0
             */
            bitsPerSec?: number;
            /**
             * Format: float
             * @description Share of its host's processor time that is in use, 0 to 1. Absent: it did not say.
             * @default null
             */
            cpuShare?: number | null;
            /**
             * Format: int64
             * @description Packets per second that it drops.
             * @default 0
             */
            dropsPerSec?: number;
            /**
             * @description Which dimension that is. Absent: it carries nothing.
             * @default null
             */
            fullest?: string | null;
            /**
             * Format: double
             * @description How full it is by its fullest dimension, 1 is full. Absent: it did not state what it can carry.
             * @default null
             */
            fullness?: number | null;
            /**
             * Format: int32
             * @description Leases that its group holds; each of its edges carries all of them.
             * @default 0
             */
            leaseCount?: number;
            /**
             * Format: int64
             * @description Packets per second, both directions together.
             * @default 0
             */
            packetsPerSec?: number;
        };
        /** @description An edge: a device that owns egress addresses. */
        EdgeName: string;
        /**
         * Format: int64
         * @description An edge's number in the data plane, given by the manager; 1 to 65,535.
         */
        EdgeNumber: number;
        /** @description What one node or peer measures of an edge. */
        EdgeProbe: components["schemas"]["EdgeHealth"] & {
            /** @description Who: `node/NAME` or `edge/NAME`. */
            from: string;
        };
        /** @description A registered edge. */
        EdgeView: {
            /** @description Its address on the underlay. */
            address: string;
            /** @description Ranges that routes to it are announced for. Absent: it announces none by its configuration. */
            announced?: string[] | null;
            /** @description The generation it acknowledged. */
            applied: components["schemas"]["Generation"];
            /**
             * Format: int64
             * @description Traffic between its last two reports.
             */
            bitsPerSec: number;
            /** @description Those of its labels that are bound, by its join token or by people; the others are its own word. */
            boundLabels?: {
                [key: string]: string;
            };
            /** @description Capabilities it offers. */
            capabilities: components["schemas"]["Capability"][];
            capacity?: components["schemas"]["EdgeCapacity"] | null;
            /** @description Its round trips to sources of content, microseconds. */
            contentRttUs?: components["schemas"]["BTreeMap"];
            /** @description What its data plane counted. */
            counters: components["schemas"]["Counters"];
            /** @description The generation published for it. */
            desired: components["schemas"]["Generation"];
            /** @description Whether new flows avoid it. */
            draining: boolean;
            /** @description What is wrong with it although it serves. */
            flags: string[];
            /** @description Its group. */
            group: components["schemas"]["GroupName"];
            /** @description Its labels: what it says of itself, with the bound ones over them. */
            labels: {
                [key: string]: string;
            };
            /**
             * Format: int32
             * @description Leases that it carries.
             */
            leaseCount: number;
            /** @description Whether it was deleted and is forgetting its leases. */
            leaving: boolean;
            /** @description What it carries, and how full it is. */
            load?: components["schemas"]["EdgeLoad"];
            maintenance?: components["schemas"]["Maintenance"] | null;
            /** @description Its name. */
            name: components["schemas"]["EdgeName"];
            /** @description Its number in the data plane. */
            number: components["schemas"]["EdgeNumber"];
            /** @description Egress addresses and IPv6 next hops that it answers ARP or ND for. */
            owned: string[];
            /** @description What everybody who probes it measures. */
            probes: components["schemas"]["EdgeProbe"][];
            /** @description Why it is in that state. */
            reason: string;
            rejected?: components["schemas"]["Rejection"] | null;
            /** @description Why its key was revoked. Absent: it is not. */
            revoked?: string | null;
            /**
             * Format: int64
             * @description When it last reported.
             */
            seenMs: number;
            /** @description `up`, `down` or `new`. */
            state: string;
            /** @description Its encrypted tunnels. */
            tunnel?: components["schemas"]["TunnelReport"];
            /** @description Why it may still do harm with an old lease table. Absent: it is fenced. */
            unfenced?: string | null;
            /** @description Its program's version. */
            version: string;
            /**
             * Format: int32
             * @description Its share of the group's flows, relative to the others.
             */
            weight: number;
        };
        /** @description One field of an effective persona and where it comes from. */
        EffectiveField: {
            /** @description The layer that put it there. */
            layer: string;
            /** @description Such as `network.mtu`. */
            path: string;
            /** @description `persona@version`. */
            persona: string;
            /** @description Its value. */
            value: Record<string, never>;
        };
        /** @description Something that happened. */
        EventView: {
            /** @description What it is about. */
            about: string;
            /** @description Who did it: `manager`, `node/NAME`, `edge/NAME` or `operator`. */
            actor: string;
            /** @description Before and after, where that says something. */
            details: Record<string, never>;
            /** @description A sentence for people, with the reason. */
            message: string;
            /** @description A dotted name such as `assignment.changed`, `edge.down`, `lease.freed`. */
            name: string;
            /**
             * Format: int64
             * @description Ascending, without gaps in one store incarnation.
             */
            number: number;
            /**
             * Format: int64
             * @description When.
             */
            timeMs: number;
        };
        /** @description `GET /v1/explain/{subject}`: how the decision came about. */
        Explanation: {
            activation?: components["schemas"]["ActivationView"] | null;
            /** @description What is in force. */
            assignment: components["schemas"]["AssignmentView"];
            /** @description Bindings that select it, by name. */
            bindings?: string[];
            /** @description Every persona that was considered for the network section, best first. */
            considered: components["schemas"]["Considered"][];
            edges?: components["schemas"]["EdgeExplanation"] | null;
            /** @description Every field of the effective persona: path, value, and the persona and layer that it comes from. */
            effective: components["schemas"]["EffectiveField"][];
            lease?: components["schemas"]["LeaseView"] | null;
            lease6?: components["schemas"]["LeaseView"] | null;
            monitoring?: components["schemas"]["MonitoringView"] | null;
            /** @description Where none does: which one would if what its node says of it were bound, and how that is done. */
            nearest?: string | null;
            security?: components["schemas"]["SecurityReport"] | null;
            software?: components["schemas"]["SoftwareReport"] | null;
        };
        /** @description What is known of a far end. */
        FarEndReport: {
            /** @description Its address on the underlay. */
            address: string;
            /**
             * Format: int64
             * @description How long ago keys were last agreed upon, seconds. Absent: not yet.
             */
            handshakeAgeSecs?: number | null;
        };
        /** @description How much worse those who were moved may do, than they did before and than those do who were not moved yet. */
        Gate: {
            /**
             * @description Packets dropped for one reason on their nodes: so much more of all, such as `1%`.
             * @default 1%
             */
            drops?: string;
            /**
             * @description Probes of their edges that stay unanswered: so much more of all.
             * @default 2%
             */
            loss?: string;
            /**
             * @description After this time, and the soak's, everybody who was moved must have it in force.
             * @default 30s
             */
            settle?: string;
            /**
             * @description Of those who send and were answered before, so many may hear nothing.
             * @default 10%
             */
            unanswered?: string;
        };
        /**
         * Format: int64
         * @description The version of published state: a store incarnation and a number within it, ordered in that order.
         *
         *     Carried as one integer so that the data plane compares it in one instruction: the incarnation in the upper 24 bits,
         *     the number in the lower 40. Zero means "none yet".
         */
        Generation: number;
        /** @description A group of edges that can carry the same egress addresses. */
        GroupName: string;
        /** @description The evidence in numbers, for people. */
        Health: {
            /**
             * Format: int32
             * @description Of those who were moved: who send and were answered before.
             */
            answeredBefore: number;
            /**
             * Format: double
             * @description What part of packets was dropped on nodes with somebody moved, since the wave began, 0 to 1.
             */
            drops: number;
            /**
             * Format: double
             * @description The same in the time before.
             */
            dropsBefore: number;
            /**
             * Format: double
             * @description The same since the wave began on nodes with nobody moved. Absent: there are none.
             */
            dropsOthers?: number | null;
            /**
             * Format: float
             * @description Mean loss of probes to the edges of those who were moved, 0 to 1. Absent: nobody probes them.
             */
            loss?: number | null;
            /**
             * Format: float
             * @description The same in the time before.
             */
            lossBefore?: number | null;
            /**
             * Format: float
             * @description The same now of those who were not moved.
             */
            lossOthers?: number | null;
            /**
             * Format: int32
             * @description Nodes that reject what they are told.
             */
            rejections: number;
            /**
             * Format: int32
             * @description Of these, who hear nothing.
             */
            unanswered: number;
        };
        /**
         * Format: int64
         * @description A lease's id, never reused.
         */
        LeaseId: number;
        /** @description What a lease consists of. */
        LeaseSpace: {
            /** @description The egress address. */
            address: string;
            /**
             * Format: int32
             * @description log2 of the ports in a block; block `b` is ports `b << block_bits` and up. 16: the whole address.
             */
            blockBits: number;
            /** @description The blocks held, ascending, none below port 1,024; `[0]` for a whole address. */
            blocks: number[];
            /** @enum {string} */
            family: "ipv4";
        } | {
            /** @enum {string} */
            family: "ipv6";
            /** @description Its first address; the low 64 bits are zero. */
            prefix: string;
        };
        /** @description How full a lease is. Slots are external ports per protocol; a prefix has none. */
        LeaseUse: {
            /** @description Which lease. */
            lease: components["schemas"]["LeaseId"];
            /**
             * Format: int32
             * @description Slots that a live flow holds.
             */
            liveSlotCount: number;
            /**
             * Format: int32
             * @description Ports that are shared between remotes because no slot was free.
             */
            sharedPortCount: number;
            /**
             * Format: int32
             * @description Slots that there are.
             */
            slotCount: number;
        };
        /** @description A lease. */
        LeaseView: components["schemas"]["LeaseSpace"] & {
            /** @description Whether the subject's interface has it and nothing is rewritten. */
            configured: boolean;
            /**
             * Format: int64
             * @description Retiring under a grace: when what is left of its flows is cut.
             */
            cutAtMs?: number | null;
            /** @description Whether its packets go through the encrypted tunnel only. */
            encrypted?: boolean;
            /**
             * Format: int64
             * @description In quarantine: when it is free again.
             */
            freeAtMs?: number | null;
            /** @description The generation in which edges first learnt of it. */
            generation: components["schemas"]["Generation"];
            /** @description Its id. */
            id: components["schemas"]["LeaseId"];
            /** @description Under which persona. */
            persona: components["schemas"]["PersonaName"];
            /** @description From which pool. */
            pool: components["schemas"]["PoolName"];
            /** @description Port ranges, first and last port of each, ascending; none for a prefix. */
            ports: [
                number,
                number
            ][];
            /**
             * @description `publishing` (edges are learning it), `active`, `retiring` (its last flows go on), `revoking` (edges are
             *     forgetting it) or `quarantine`.
             */
            state: string;
            /** @description Who holds it. */
            subject: components["schemas"]["SubjectId"];
            use?: components["schemas"]["LeaseUse"] | null;
            /** @description That persona's unique id. */
            vni: components["schemas"]["Vni"];
        };
        /** @description A workload's limits: wanted and actual. */
        LimitReport: {
            /** @description What the kernel or hypervisor says; an absent field is not limited. */
            actual?: components["schemas"]["Limits"];
            /** @description What limits it, such as `cgroup v2` or `QMP`. */
            backends?: string[];
            /** @description The persona that wants them, as `NAME@VERSION`. */
            persona?: string | null;
            /** @description Why nothing is in force, or what somebody else changed. */
            reason?: string | null;
            /** @description How they stand. */
            state: components["schemas"]["LimitState"];
            /** @description Field of the document → why it is not in force, or not as written. */
            unsupported?: {
                [key: string]: string;
            };
            /** @description What the persona wants. */
            wanted?: components["schemas"]["Limits"];
            /** @description Which workload of the node. */
            workload: string;
        };
        /**
         * @description How a workload's limits stand.
         * @enum {string}
         */
        LimitState: "unlimited" | "inForce" | "partly" | "failed" | "changed";
        /** @description What an instance may use. An absent field is no business of the persona's: what was there before stays. */
        Limits: {
            /**
             * Format: int64
             * @description Processor time per second of all processors together, microseconds: 2,000,000 is two whole processors.
             * @default null
             */
            cpuUsPerSec?: number | null;
            /**
             * Format: int32
             * @description Share of processor time against others, 1 to 10,000; 100 is usual.
             * @default null
             */
            cpuWeight?: number | null;
            /**
             * Format: int32
             * @description Share of disk time against others, 1 to 10,000; 100 is usual.
             * @default null
             */
            ioWeight?: number | null;
            /**
             * Format: int64
             * @description Memory above which processes are slowed, bytes.
             * @default null
             */
            memoryHighBytes?: number | null;
            /**
             * Format: int64
             * @description Memory, at most, bytes.
             * @default null
             */
            memoryMaxBytes?: number | null;
            /**
             * Format: int64
             * @description Processes and threads, at most.
             * @default null
             */
            pidsMax?: number | null;
            /**
             * Format: int64
             * @description Bytes read per second and device, at most.
             * @default null
             */
            readBytesPerSec?: number | null;
            /**
             * Format: int64
             * @description Reads per second and device, at most.
             * @default null
             */
            readsPerSec?: number | null;
            /**
             * Format: int64
             * @description Bytes written per second and device, at most.
             * @default null
             */
            writeBytesPerSec?: number | null;
            /**
             * Format: int64
             * @description Writes per second and device, at most.
             * @default null
             */
            writesPerSec?: number | null;
        };
        /** @description Somebody works on an edge. */
        Maintenance: {
            /** @description Why, for people. Absent: nobody said. */
            reason?: string | null;
            /**
             * Format: int64
             * @description Since when, milliseconds since 1970.
             */
            sinceMs: number;
        };
        /** @description What a subject is watched for. */
        MonitoringView: {
            /** @description Every alert, with what its criteria see. */
            alerts: components["schemas"]["AlertStory"][];
            /** @description The persona whose monitoring section it wears. */
            persona: components["schemas"]["PersonaName"];
            /**
             * Format: int32
             * @description Its version.
             */
            version: number;
        };
        /** @description A node: a host that runs the agent. */
        NodeName: string;
        /** @description A registered node. */
        NodeView: {
            /** @description Its address on the underlay. */
            address: string;
            /** @description The generation it acknowledged. */
            applied: components["schemas"]["Generation"];
            /** @description Those of its labels that are bound, by its join token or by people; the others are its own word. */
            boundLabels?: {
                [key: string]: string;
            };
            /** @description Capabilities it wants. */
            capabilities: components["schemas"]["Capability"][];
            /** @description What its data plane counted. */
            counters: components["schemas"]["Counters"];
            /** @description Whether it hears none of the edges that it probes, though one of them serves: its own network is cut off, or its way to them. */
            cutOff?: boolean;
            /** @description The generation published for it. */
            desired: components["schemas"]["Generation"];
            /** @description Whether it takes nobody new. */
            draining: boolean;
            /** @description What its probes say. */
            edges: components["schemas"]["EdgeHealth"][];
            /** @description Its labels: what it says of itself, with the bound ones over them. */
            labels: {
                [key: string]: string;
            };
            /**
             * Format: int32
             * @description Leases of its subjects that edges carry.
             */
            leaseCount: number;
            /**
             * Format: int64
             * @description External ports that live flows hold, of all leases.
             */
            liveSlotCount: number;
            /** @description Its name. */
            name: components["schemas"]["NodeName"];
            rejected?: components["schemas"]["Rejection"] | null;
            /** @description Why its key was revoked. Absent: it is not. */
            revoked?: string | null;
            /**
             * Format: int64
             * @description When it last reported.
             */
            seenMs: number;
            /** @description What it is told to have of totals over all nodes. */
            shares?: components["schemas"]["ShareItem"][];
            /** @description Its encrypted tunnels. */
            tunnel?: components["schemas"]["TunnelReport"];
            /**
             * Format: int32
             * @description The least MTU of its ways to edges, bytes. Absent: it did not say.
             */
            underlayMtu?: number | null;
            /** @description Whether it reported lately. */
            up: boolean;
            /** @description Its program's version. */
            version: string;
        };
        /** @description One wanted package. */
        PackageReport: {
            /** @description The version that is installed. Absent: none is. */
            installed?: string | null;
            /** @description Whether that is as wanted. */
            isAsWanted: boolean;
            /** @description Whether it is pinned there: the package manager is told to hold it. */
            isHeld?: boolean;
            /** @description Its name. */
            package: string;
            /** @description What is wanted of its version. Absent: any. */
            wanted?: string | null;
        };
        /** @description One page of a list. */
        Page_AlertView: {
            /** @description The page's entries. */
            items: {
                /** @description Its name. */
                alert: string;
                /** @description The persona that watches for it. */
                persona: components["schemas"]["PersonaName"];
                /** @description Why, a sentence for people. */
                reason: string;
                /**
                 * Format: int64
                 * @description Since when.
                 */
                sinceMs: number;
                /** @description Of whom. */
                subject: components["schemas"]["SubjectId"];
                /**
                 * Format: int32
                 * @description That persona's version when the alert was raised.
                 */
                version: number;
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_EdgeView: {
            /** @description The page's entries. */
            items: {
                /** @description Its address on the underlay. */
                address: string;
                /** @description Ranges that routes to it are announced for. Absent: it announces none by its configuration. */
                announced?: string[] | null;
                /** @description The generation it acknowledged. */
                applied: components["schemas"]["Generation"];
                /**
                 * Format: int64
                 * @description Traffic between its last two reports.
                 */
                bitsPerSec: number;
                /** @description Those of its labels that are bound, by its join token or by people; the others are its own word. */
                boundLabels?: {
                    [key: string]: string;
                };
                /** @description Capabilities it offers. */
                capabilities: components["schemas"]["Capability"][];
                capacity?: components["schemas"]["EdgeCapacity"] | null;
                /** @description Its round trips to sources of content, microseconds. */
                contentRttUs?: components["schemas"]["BTreeMap"];
                /** @description What its data plane counted. */
                counters: components["schemas"]["Counters"];
                /** @description The generation published for it. */
                desired: components["schemas"]["Generation"];
                /** @description Whether new flows avoid it. */
                draining: boolean;
                /** @description What is wrong with it although it serves. */
                flags: string[];
                /** @description Its group. */
                group: components["schemas"]["GroupName"];
                /** @description Its labels: what it says of itself, with the bound ones over them. */
                labels: {
                    [key: string]: string;
                };
                /**
                 * Format: int32
                 * @description Leases that it carries.
                 */
                leaseCount: number;
                /** @description Whether it was deleted and is forgetting its leases. */
                leaving: boolean;
                /** @description What it carries, and how full it is. */
                load?: components["schemas"]["EdgeLoad"];
                maintenance?: components["schemas"]["Maintenance"] | null;
                /** @description Its name. */
                name: components["schemas"]["EdgeName"];
                /** @description Its number in the data plane. */
                number: components["schemas"]["EdgeNumber"];
                /** @description Egress addresses and IPv6 next hops that it answers ARP or ND for. */
                owned: string[];
                /** @description What everybody who probes it measures. */
                probes: components["schemas"]["EdgeProbe"][];
                /** @description Why it is in that state. */
                reason: string;
                rejected?: components["schemas"]["Rejection"] | null;
                /** @description Why its key was revoked. Absent: it is not. */
                revoked?: string | null;
                /**
                 * Format: int64
                 * @description When it last reported.
                 */
                seenMs: number;
                /** @description `up`, `down` or `new`. */
                state: string;
                /** @description Its encrypted tunnels. */
                tunnel?: components["schemas"]["TunnelReport"];
                /** @description Why it may still do harm with an old lease table. Absent: it is fenced. */
                unfenced?: string | null;
                /** @description Its program's version. */
                version: string;
                /**
                 * Format: int32
                 * @description Its share of the group's flows, relative to the others.
                 */
                weight: number;
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_EventView: {
            /** @description The page's entries. */
            items: {
                /** @description What it is about. */
                about: string;
                /** @description Who did it: `manager`, `node/NAME`, `edge/NAME` or `operator`. */
                actor: string;
                /** @description Before and after, where that says something. */
                details: Record<string, never>;
                /** @description A sentence for people, with the reason. */
                message: string;
                /** @description A dotted name such as `assignment.changed`, `edge.down`, `lease.freed`. */
                name: string;
                /**
                 * Format: int64
                 * @description Ascending, without gaps in one store incarnation.
                 */
                number: number;
                /**
                 * Format: int64
                 * @description When.
                 */
                timeMs: number;
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_NodeView: {
            /** @description The page's entries. */
            items: {
                /** @description Its address on the underlay. */
                address: string;
                /** @description The generation it acknowledged. */
                applied: components["schemas"]["Generation"];
                /** @description Those of its labels that are bound, by its join token or by people; the others are its own word. */
                boundLabels?: {
                    [key: string]: string;
                };
                /** @description Capabilities it wants. */
                capabilities: components["schemas"]["Capability"][];
                /** @description What its data plane counted. */
                counters: components["schemas"]["Counters"];
                /** @description Whether it hears none of the edges that it probes, though one of them serves: its own network is cut off, or its way to them. */
                cutOff?: boolean;
                /** @description The generation published for it. */
                desired: components["schemas"]["Generation"];
                /** @description Whether it takes nobody new. */
                draining: boolean;
                /** @description What its probes say. */
                edges: components["schemas"]["EdgeHealth"][];
                /** @description Its labels: what it says of itself, with the bound ones over them. */
                labels: {
                    [key: string]: string;
                };
                /**
                 * Format: int32
                 * @description Leases of its subjects that edges carry.
                 */
                leaseCount: number;
                /**
                 * Format: int64
                 * @description External ports that live flows hold, of all leases.
                 */
                liveSlotCount: number;
                /** @description Its name. */
                name: components["schemas"]["NodeName"];
                rejected?: components["schemas"]["Rejection"] | null;
                /** @description Why its key was revoked. Absent: it is not. */
                revoked?: string | null;
                /**
                 * Format: int64
                 * @description When it last reported.
                 */
                seenMs: number;
                /** @description What it is told to have of totals over all nodes. */
                shares?: components["schemas"]["ShareItem"][];
                /** @description Its encrypted tunnels. */
                tunnel?: components["schemas"]["TunnelReport"];
                /**
                 * Format: int32
                 * @description The least MTU of its ways to edges, bytes. Absent: it did not say.
                 */
                underlayMtu?: number | null;
                /** @description Whether it reported lately. */
                up: boolean;
                /** @description Its program's version. */
                version: string;
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_PersonaView: {
            /** @description The page's entries. */
            items: {
                /**
                 * Format: int64
                 * @description When it was stored.
                 */
                createdMs: number;
                /** @description SHA-256 of the canonical document, in hex. */
                digest: string;
                /** @description The document. */
                document: Record<string, never>;
                /**
                 * Format: int32
                 * @description The newest version of this persona.
                 */
                latestVersion: number;
                /** @description Its name. */
                name: components["schemas"]["PersonaName"];
                /**
                 * Format: int32
                 * @description Its version, from 1.
                 */
                version: number;
                /** @description Its unique id. */
                vni: components["schemas"]["Vni"];
                /**
                 * Format: int32
                 * @description Subjects that wear it now, in any section.
                 */
                wearers: number;
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_PoolView: {
            /** @description The page's entries. */
            items: {
                /**
                 * Format: int32
                 * @description IPv4 addresses of which nobody holds a port, to be leased whole.
                 */
                addressesFree: number;
                /**
                 * Format: int32
                 * @description IPv4 addresses in all.
                 */
                addressesTotal: number;
                /**
                 * Format: int32
                 * @description Blocks leased.
                 */
                blocksLeased: number;
                /**
                 * Format: int32
                 * @description Blocks in quarantine.
                 */
                blocksQuarantined: number;
                /**
                 * Format: int32
                 * @description Blocks in all.
                 */
                blocksTotal: number;
                /** @description The document. */
                document: Record<string, never>;
                /**
                 * Format: int64
                 * @description In about so long it is full if it goes on filling as it did within the last month, milliseconds. Absent: it does not fill, not
                 *     within a year, or is known for less than half a day.
                 */
                fullInMs?: number | null;
                /** @description Its name. */
                name: components["schemas"]["PoolName"];
                /**
                 * Format: int32
                 * @description IPv6 /64 leased.
                 */
                prefixesLeased: number;
                /**
                 * Format: int32
                 * @description IPv6 /64 in quarantine.
                 */
                prefixesQuarantined: number;
                /**
                 * Format: int32
                 * @description IPv6 /64 in all.
                 */
                prefixesTotal: number;
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_RolloutView: {
            /** @description The page's entries. */
            items: {
                /**
                 * Format: int32
                 * @description Of these, who do not have it in force yet.
                 */
                behind: number;
                /** @description What it changes. */
                change: components["schemas"]["RolloutChange"];
                /**
                 * Format: int64
                 * @description When its phase or wave changed last.
                 */
                changedMs: number;
                health?: components["schemas"]["Health"] | null;
                /**
                 * Format: int32
                 * @description Subjects that it is for.
                 */
                members: number;
                /**
                 * Format: int32
                 * @description Those who were moved.
                 */
                moved: number;
                /** @description Some of those who were moved. */
                movedSubjects: components["schemas"]["SubjectId"][];
                /** @description Its name. */
                name: components["schemas"]["RolloutName"];
                /** @description What it is at. */
                phase: components["schemas"]["Phase"];
                /** @description Why it halted, or what somebody said. */
                reason?: string | null;
                /** @description How it goes. */
                spec: components["schemas"]["RolloutSpec"];
                /** @description Who started it. */
                startedBy: string;
                /**
                 * Format: int64
                 * @description When, milliseconds since 1970.
                 */
                startedMs: number;
                /** @description Why the next who are due are not moved yet. */
                waiting?: string | null;
                /**
                 * Format: int64
                 * @description How long the wave was watched without a break, milliseconds. Absent: nobody watches.
                 */
                watchedMs?: number | null;
                /**
                 * Format: int32
                 * @description The wave that was begun last, from 1; 0 before the first.
                 */
                wave: number;
                /** @description Every wave. */
                waves: components["schemas"]["WaveView"][];
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_WebSessionView: {
            /** @description The page's entries. */
            items: {
                /**
                 * Format: int64
                 * @description When it began.
                 */
                createdMs: number;
                /**
                 * Format: int64
                 * @description When it ends by itself.
                 */
                expiresMs: number;
                /** @description Its id. */
                id: string;
                /** @description Whose it is: `access/NAME` or `uid/NUMBER`. Events name what is done in it `WHOSE/web/ID`. */
                owner: string;
                /** @description What it allows. */
                role: components["schemas"]["AccessRole"];
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description One page of a list. */
        Page_WorkloadView: {
            /** @description The page's entries. */
            items: {
                /** @description The IPv4 source address that its packets must have. */
                address?: string | null;
                /** @description What it wears. */
                assignment: components["schemas"]["AssignmentView"];
                /** @description Whether the device is there now. */
                attached: boolean;
                /** @description Those of its labels that are bound to it or its node; the others are its node's word. */
                boundLabels?: {
                    [key: string]: string;
                };
                /** @description Its host-side device. */
                device: string;
                /** @description How its packets are told from others'. */
                kind: components["schemas"]["WorkloadKind"];
                /** @description Its labels: what its node says of it, with the bound ones over them. */
                labels: {
                    [key: string]: string;
                };
                limits?: components["schemas"]["LimitReport"] | null;
                /** @description Its name there. */
                name: components["schemas"]["WorkloadName"];
                /** @description Its node. */
                node: components["schemas"]["NodeName"];
                /** @description The IPv6 source prefix that its packets must have. */
                prefix6?: string | null;
                /** @description The subject it is. */
                subject: components["schemas"]["SubjectId"];
            }[];
            /** @description Give this as `pageToken` for the next page. Absent on the last one. */
            nextPageToken?: string | null;
        };
        /** @description A persona document's name. */
        PersonaName: string;
        /** @description One persona of the list. */
        PersonaStory: {
            /** @description `persona@version`. */
            persona: string;
            /** @description Its rules, in order. */
            rules: components["schemas"]["RuleStory"][];
            /** @description Sections in which it is worn. */
            worn: string[];
        };
        /** @description A stored persona version. */
        PersonaView: {
            /**
             * Format: int64
             * @description When it was stored.
             */
            createdMs: number;
            /** @description SHA-256 of the canonical document, in hex. */
            digest: string;
            /** @description The document. */
            document: Record<string, never>;
            /**
             * Format: int32
             * @description The newest version of this persona.
             */
            latestVersion: number;
            /** @description Its name. */
            name: components["schemas"]["PersonaName"];
            /**
             * Format: int32
             * @description Its version, from 1.
             */
            version: number;
            /** @description Its unique id. */
            vni: components["schemas"]["Vni"];
            /**
             * Format: int32
             * @description Subjects that wear it now, in any section.
             */
            wearers: number;
        };
        /**
         * @description What a rollout is at.
         * @enum {string}
         */
        Phase: "observing" | "soaking" | "paused" | "halted" | "aborted" | "done" | "rolledBack";
        /**
         * @description Whether the plan takes effect.
         * @enum {string}
         */
        PlanMode: "advise" | "steer";
        /** @description `GET /v1/plan`: who is planned onto which edge, and how full edges are. */
        PlanView: {
            /** @description Every edge. */
            edges: components["schemas"]["PlannedEdge"][];
            /** @description Whether it takes effect. As advice it is made anew for every question, from nothing. */
            mode: components["schemas"]["PlanMode"];
            /** @description The same as `simulate --plan` reads it. */
            plan: Record<string, never>;
            /** @description Every subject that wears a persona with a network section. */
            subjects: components["schemas"]["PlannedSubject"][];
        };
        /** @description An edge in the plan. */
        PlannedEdge: {
            /** @description Which. */
            edge: components["schemas"]["EdgeName"];
            /** @description Its group. */
            group: components["schemas"]["GroupName"];
            /**
             * Format: double
             * @description How full it is by what it measures. Absent: it did not state what it can carry.
             */
            measuredFullness?: number | null;
            /** @description What the plan reserves there: rate, packets per second, flows, leases. */
            planned: Record<string, never>;
            /**
             * Format: double
             * @description How full that makes it, by its fullest dimension; 1 is full.
             */
            plannedFullness: number;
            /** @description `serving`, `degraded`, `draining`, `maintenance` or `down`. */
            service: string;
            /**
             * Format: int32
             * @description Subjects that are planned onto it.
             */
            subjects: number;
        };
        /** @description A subject in the plan. */
        PlannedSubject: {
            /** @description What is reserved for it. */
            demand: Record<string, never>;
            edge?: components["schemas"]["EdgeName"] | null;
            /** @description The group in which it holds its lease. */
            group: components["schemas"]["GroupName"];
            /** @description The persona that it wears. */
            persona: components["schemas"]["PersonaName"];
            /** @description Why it is there, or why nowhere. */
            reason: string;
            /**
             * Format: int64
             * @description Since when it is there. Absent: the plan is advice, or has no edge for it.
             */
            sinceMs?: number | null;
            /** @description Who. */
            subject: components["schemas"]["SubjectId"];
        };
        /** @description An egress pool's name. */
        PoolName: string;
        /** @description An egress pool and how full it is. */
        PoolView: {
            /**
             * Format: int32
             * @description IPv4 addresses of which nobody holds a port, to be leased whole.
             */
            addressesFree: number;
            /**
             * Format: int32
             * @description IPv4 addresses in all.
             */
            addressesTotal: number;
            /**
             * Format: int32
             * @description Blocks leased.
             */
            blocksLeased: number;
            /**
             * Format: int32
             * @description Blocks in quarantine.
             */
            blocksQuarantined: number;
            /**
             * Format: int32
             * @description Blocks in all.
             */
            blocksTotal: number;
            /** @description The document. */
            document: Record<string, never>;
            /**
             * Format: int64
             * @description In about so long it is full if it goes on filling as it did within the last month, milliseconds. Absent: it does not fill, not
             *     within a year, or is known for less than half a day.
             */
            fullInMs?: number | null;
            /** @description Its name. */
            name: components["schemas"]["PoolName"];
            /**
             * Format: int32
             * @description IPv6 /64 leased.
             */
            prefixesLeased: number;
            /**
             * Format: int32
             * @description IPv6 /64 in quarantine.
             */
            prefixesQuarantined: number;
            /**
             * Format: int32
             * @description IPv6 /64 in all.
             */
            prefixesTotal: number;
        };
        /** @description An error, RFC 9457. */
        Problem: {
            /** @description What is wrong this time, and what would be valid. */
            detail: string;
            /** @description Each part of the input that is wrong. */
            errors?: components["schemas"]["ProblemPart"][];
            /**
             * Format: int32
             * @description The HTTP status.
             */
            status: number;
            /** @description A short sentence, the same for every problem of the type. */
            title: string;
            /** @description A stable relative URI such as `/problems/unknown-persona`. */
            type: string;
        };
        /** @description One wrong part of the input. */
        ProblemPart: {
            /** @description What is wrong and what would be valid. */
            detail: string;
            /** @description Where, as a path in the document such as `spec.network.mtu`, or empty. */
            path: string;
            /** @description Where in the body that was sent, as a JSON pointer (RFC 6901): the nearest part that is there. */
            pointer?: string | null;
        };
        /** @description A generation that could not be applied. */
        Rejection: {
            /** @description Which. */
            generation: components["schemas"]["Generation"];
            /** @description Why: what, where, and what would be valid. */
            reason: string;
        };
        /** @description What a rollout changes. */
        RolloutChange: {
            /** @description Personas get another version. */
            personas: components["schemas"]["VersionStep"][];
        } | {
            /** @description Subjects are switched by hand. */
            switch: components["schemas"]["SwitchMany"];
        };
        /** @description A rollout: a change for many subjects, made in waves. */
        RolloutName: string;
        /** @description How a rollout goes. */
        RolloutSpec: {
            /**
             * @description What it takes to go on.
             * @default {
             *       "drops": "1%",
             *       "loss": "2%",
             *       "unanswered": "10%",
             *       "settle": "30s"
             *     }
             */
            gate?: components["schemas"]["Gate"];
            /**
             * @description How long each wave is watched before the next, such as `5m`.
             * @default 5m
             */
            soak?: string;
            /**
             * @description What part of the members each wave leaves moved; the last is all of them.
             * @default [
             *       "1%",
             *       "5%",
             *       "20%",
             *       "100%"
             *     ]
             */
            waves?: string[];
        };
        /** @description `GET /v1/rollouts/{name}`. */
        RolloutView: {
            /**
             * Format: int32
             * @description Of these, who do not have it in force yet.
             */
            behind: number;
            /** @description What it changes. */
            change: components["schemas"]["RolloutChange"];
            /**
             * Format: int64
             * @description When its phase or wave changed last.
             */
            changedMs: number;
            health?: components["schemas"]["Health"] | null;
            /**
             * Format: int32
             * @description Subjects that it is for.
             */
            members: number;
            /**
             * Format: int32
             * @description Those who were moved.
             */
            moved: number;
            /** @description Some of those who were moved. */
            movedSubjects: components["schemas"]["SubjectId"][];
            /** @description Its name. */
            name: components["schemas"]["RolloutName"];
            /** @description What it is at. */
            phase: components["schemas"]["Phase"];
            /** @description Why it halted, or what somebody said. */
            reason?: string | null;
            /** @description How it goes. */
            spec: components["schemas"]["RolloutSpec"];
            /** @description Who started it. */
            startedBy: string;
            /**
             * Format: int64
             * @description When, milliseconds since 1970.
             */
            startedMs: number;
            /** @description Why the next who are due are not moved yet. */
            waiting?: string | null;
            /**
             * Format: int64
             * @description How long the wave was watched without a break, milliseconds. Absent: nobody watches.
             */
            watchedMs?: number | null;
            /**
             * Format: int32
             * @description The wave that was begun last, from 1; 0 before the first.
             */
            wave: number;
            /** @description Every wave. */
            waves: components["schemas"]["WaveView"][];
        };
        /** @description One rule. */
        RuleStory: {
            /** @description Whether `when` holds now. */
            holds: components["schemas"]["Truth"];
            /** @description Whether it lets its persona be worn. */
            isIn: boolean;
            /** @description Its `leave`, if it has one. */
            leave?: string | null;
            /** @description Every comparison of `when` and then of `leave`. */
            seen: components["schemas"]["Seen"][];
            /** @description What it waits for or why it lost, in words. */
            verdict: string;
            /** @description Its `when`. */
            when: string;
        };
        /** @description What a subject wears in one section. */
        SectionAssignment: {
            /** @description The layer that decided: `nodeDefault`, `binding`, `activation`, `request` or `manual`. */
            layer: string;
            /** @description The persona. */
            persona: components["schemas"]["PersonaName"];
            /** @description A sentence for people. */
            reason: string;
            /**
             * Format: int64
             * @description When it reverts by itself.
             */
            untilMs?: number | null;
            /**
             * Format: int32
             * @description Its version.
             */
            version: number;
        };
        /** @description A subject's security settings: wanted and actual. */
        SecurityReport: {
            /** @description The persona that wants them, as `NAME@VERSION`. */
            persona: string;
            /** @description Why nobody can tell, or what failed. */
            reason?: string | null;
            /** @description Every setting that is wanted; none if nobody can tell. */
            settings?: components["schemas"]["SettingReport"][];
            /** @description How they stand. */
            state: components["schemas"]["SecurityState"];
            /** @description Whose: the node, or a workload of it. */
            subject: components["schemas"]["SubjectId"];
        };
        /**
         * @description How a subject's security settings stand, the best first.
         * @enum {string}
         */
        SecurityState: "inForce" | "partly" | "needsRestart" | "failed" | "unknown";
        /** @description One comparison and what it saw. */
        Seen: {
            /** @description The comparison. */
            comparison: string;
            /**
             * Format: double
             * @description How far the two sides are apart. None: not a number, or unknown.
             */
            margin?: number | null;
            /** @description Whether it holds. */
            truth: components["schemas"]["Truth"];
            /** @description The left side's value, in words. `unknown` where a signal is missing. */
            value: string;
        };
        /** @description One setting. */
        SettingReport: {
            /** @description What there is. Absent: nobody can tell. */
            actual?: string | null;
            /** @description Why, if it is not in force, and what to do. */
            reason?: string | null;
            /** @description Its path in the section, such as `sysctl.net.ipv4.tcp_syncookies`. */
            setting: string;
            /** @description How it stands. */
            state: components["schemas"]["SettingState"];
            /** @description What is wanted. */
            wanted: string;
        };
        /**
         * @description How one setting stands, the best first.
         * @enum {string}
         */
        SettingState: "inForce" | "unsupported" | "needsRestart" | "failed";
        /** @description What a node has of a persona's total over all nodes, bits per second of inner IP bytes. */
        ShareItem: {
            /**
             * Format: int64
             * @description Upwards.
             */
            egressBps: number;
            /**
             * Format: int64
             * @description Downwards.
             */
            ingressBps: number;
            /** @description The persona. */
            persona: components["schemas"]["PersonaName"];
        };
        /** @description What the slow path did with packets that programs handed over. */
        SlowPathWork: {
            /**
             * Format: int64
             * @description Packets that were cut because they were too big.
             * @default 0
             */
            cut?: number;
            /**
             * Format: int64
             * @description Fragments whose first never came.
             * @default 0
             */
            expired?: number;
            /**
             * Format: int64
             * @description Fragments that went on after their first had come.
             * @default 0
             */
            released?: number;
            /**
             * Format: int64
             * @description Fragments that had to wait for their first.
             * @default 0
             */
            waited?: number;
        };
        /** @description A subject's software: wanted and installed. */
        SoftwareReport: {
            /** @description Every wanted package; none if nobody can tell. */
            packages?: components["schemas"]["PackageReport"][];
            /** @description The persona that wants it, as `NAME@VERSION`. */
            persona: string;
            /** @description Why nobody can tell, what failed, or what is under way. */
            reason?: string | null;
            /** @description How it stands. */
            state: components["schemas"]["SoftwareState"];
            /** @description Whose: the node, or a workload of it. */
            subject: components["schemas"]["SubjectId"];
        };
        /**
         * @description How a subject's software stands.
         * @enum {string}
         */
        SoftwareState: "asWanted" | "drifted" | "unknown" | "failed";
        /** @description `GET /v1/status`. */
        Status: {
            /**
             * Format: int32
             * @description Alerts that are raised.
             */
            alerts?: number;
            /** @description Nodes and edges that have not acknowledged what is published for them. */
            behind: string[];
            /** @description Subjects whose software is not as wanted. */
            drifted?: components["schemas"]["SubjectId"][];
            /** @description Edges that are up, and in all. */
            edges: [
                number,
                number
            ];
            /**
             * Format: int64
             * @description The newest event's number.
             */
            eventLast?: number;
            /** @description Nodes that are up, and in all. */
            nodes: [
                number,
                number
            ];
            /** @description Nodes and edges that rejected what is published for them, with the reason. */
            rejected: {
                [key: string]: string;
            };
            /** @description Subjects that must be started anew for their security settings, or whose settings failed. */
            restart?: components["schemas"]["SubjectId"][];
            /** @description The store's revision. */
            revision: components["schemas"]["Generation"];
            /** @description Subjects that should have a network persona and have none, with the reason. */
            unassigned: {
                [key: string]: string;
            };
            /** @description The manager's version. */
            version: string;
            /**
             * Format: int32
             * @description Workloads.
             */
            workloads: number;
        };
        /** @description What was counted of one subject. */
        SubjectCounters: {
            /**
             * Format: int64
             * @description Packets from it or for it that were dropped. Those that are nobody's yet when they are dropped are not among them.
             */
            droppedPackets?: number;
            /**
             * Format: int64
             * @description Flows that it opened under its persona, and connections opened towards it, past the persona too.
             */
            openedFlows?: number;
            /** @description Who. */
            subject: components["schemas"]["SubjectId"];
            /** @description Its traffic. */
            traffic: components["schemas"]["Traffic"];
        };
        SubjectId: string;
        /** @description `POST /v1/switch`: a person decides. */
        Switch: {
            /**
             * Format: int64
             * @description Cuts what is left of its old flows after this time, milliseconds; 0: at once. Absent: what the persona that it
             *     leaves says, else they go on until they end.
             */
            cutAfterMs?: number | null;
            /**
             * Format: int64
             * @description Reverts by itself after this time, milliseconds. Absent: until taken back.
             */
            forMs?: number | null;
            /** @description What it shall wear, in every section that the persona has. */
            persona: components["schemas"]["PersonaName"];
            /** @description Who. */
            subject: components["schemas"]["SubjectId"];
        };
        /** @description A switch of many subjects. */
        SwitchMany: {
            /** @description What they wear from then on. */
            persona: components["schemas"]["PersonaName"];
            /** @description Who, as in a binding. */
            selector: Record<string, never>;
        };
        /** @description Packets and inner IP bytes, both directions. */
        Traffic: {
            /**
             * Format: int64
             * @description From the subject, inner IP bytes.
             */
            egressBytes: number;
            /**
             * Format: int64
             * @description From the subject.
             */
            egressPackets: number;
            /**
             * Format: int64
             * @description To the subject, inner IP bytes.
             */
            ingressBytes: number;
            /**
             * Format: int64
             * @description To the subject.
             */
            ingressPackets: number;
        };
        /**
         * @description Whether something holds.
         * @enum {string}
         */
        Truth: "false" | "unknown" | "true";
        /** @description An end of encrypted tunnels. Its address is the underlay's. */
        TunnelEnd: {
            /** @description The public key that is about to take its place: far ends accept both. Absent: no change is under way. */
            nextKey?: string | null;
            /**
             * Format: int32
             * @description The UDP port that it listens on.
             */
            port: number;
            /** @description Its public key (WireGuard, X25519), Base64. The private one never leaves its host. */
            publicKey: string;
        };
        /** @description What a node or an edge says of its encrypted tunnels. */
        TunnelReport: {
            end?: components["schemas"]["TunnelEnd"] | null;
            /** @description The far ends that it knows. */
            farEnds?: components["schemas"]["FarEndReport"][];
            /** @description What encrypts: `kernel` or `userspace`. */
            implementation?: string | null;
            /**
             * Format: int64
             * @description How old its key is, seconds.
             */
            keyAgeSecs?: number | null;
            /** @description Why there is none. */
            reason?: string | null;
        };
        /** @description One persona from one version to another. */
        VersionStep: {
            /**
             * Format: int32
             * @description The version in force for everybody who was not moved.
             */
            from: number;
            /** @description Which. */
            persona: components["schemas"]["PersonaName"];
            /**
             * Format: int32
             * @description The version of those who were.
             */
            to: number;
        };
        /**
         * Format: int64
         * @description A persona's unique id: the Geneve VNI of its packets (RFC 8926 §3.4). 1 to 2^24 - 1; given by the manager, never reused.
         */
        Vni: number;
        /** @description A wave. */
        WaveView: {
            /** @description What part of the members it leaves moved. */
            share: string;
            /**
             * Format: int32
             * @description How many that are.
             */
            subjects: number;
        };
        /** @description A session, without its secret. */
        WebSessionView: {
            /**
             * Format: int64
             * @description When it began.
             */
            createdMs: number;
            /**
             * Format: int64
             * @description When it ends by itself.
             */
            expiresMs: number;
            /** @description Its id. */
            id: string;
            /** @description Whose it is: `access/NAME` or `uid/NUMBER`. Events name what is done in it `WHOSE/web/ID`. */
            owner: string;
            /** @description What it allows. */
            role: components["schemas"]["AccessRole"];
        };
        /** @description `GET /v1/whoami`: as whom the manager knows the sender. */
        WhoAmI: {
            /** @description As events name it: `access/NAME`, `uid/NUMBER`, `node/NAME`, `edge/NAME`, or one of the first two with `/web/ID`. */
            actor: string;
            /** @description Of a session at the page: what every change has to have in the header `persona-csrf`. */
            csrf?: string | null;
            /**
             * Format: int64
             * @description When its token or its session at the page expires. Absent: it has none.
             */
            expiresMs?: number | null;
            role?: components["schemas"]["AccessRole"] | null;
        };
        /**
         * @description How a workload's packets are told from others'.
         * @enum {string}
         */
        WorkloadKind: "device" | "cgroup" | "source" | "instance";
        /** @description A workload, unique on its node. */
        WorkloadName: string;
        /** @description A workload and what it wears. */
        WorkloadView: {
            /** @description The IPv4 source address that its packets must have. */
            address?: string | null;
            /** @description What it wears. */
            assignment: components["schemas"]["AssignmentView"];
            /** @description Whether the device is there now. */
            attached: boolean;
            /** @description Those of its labels that are bound to it or its node; the others are its node's word. */
            boundLabels?: {
                [key: string]: string;
            };
            /** @description Its host-side device. */
            device: string;
            /** @description How its packets are told from others'. */
            kind: components["schemas"]["WorkloadKind"];
            /** @description Its labels: what its node says of it, with the bound ones over them. */
            labels: {
                [key: string]: string;
            };
            limits?: components["schemas"]["LimitReport"] | null;
            /** @description Its name there. */
            name: components["schemas"]["WorkloadName"];
            /** @description Its node. */
            node: components["schemas"]["NodeName"];
            /** @description The IPv6 source prefix that its packets must have. */
            prefix6?: string | null;
            /** @description The subject it is. */
            subject: components["schemas"]["SubjectId"];
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;
