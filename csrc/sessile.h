/* sessile.h - the contract of the session table.
 *
 * A table holds sessions in one mapping that every process of a host may share. This header is all that a caller needs:
 * who owns what, what may wait, in which units, and every status with its meaning.
 *
 * Words: an *id* is the secret that a client holds, 32 base64url characters; its *digest* is a keyed SHA-256 and the only
 * form of it that is stored. A *record* holds one session: facts, owner, device, fields. A *handle* names a session to
 * people and programs, and is never an id. A *rotation* gives a session a new id and *retires* the old one; a *renewal* is
 * the rotation of the web layer, whose old id *forwards* for a while. A *shard* is one stripe of the table.
 *
 * Ownership: `struct sessile` belongs to this process, everything in the mapping to all. No function keeps a pointer that
 * it was given beyond its call. No function allocates memory that the caller must free, except sessile_open().
 *
 * Threads and processes: every function may be called from any thread of any process that opened the table, except that
 * sessile_close() needs every other call on that `struct sessile` to have returned. A child made by fork() uses the table
 * of its parent with a process slot of its own, which it takes by itself.
 *
 * Waiting: a function that takes a `struct sessile_call` never waits when `wait_ms` is 0: it answers
 * SESSILE_WOULD_BLOCK before it has changed anything, and the caller repeats the call with a `wait_ms` (after giving up
 * whatever others need, such as an interpreter lock). With `wait_ms` > 0 it waits that many milliseconds at most for each
 * lock and then answers SESSILE_BUSY: nothing was changed. A lock whose owner was proven dead is taken over; the living
 * are never robbed. Functions without that parameter never wait.
 *
 * Time: milliseconds of the table's own clock: the host's boot-time clock (which counts suspend and ignores steps of the
 * wall clock), counted from an origin 800 days before the table was made. sessile_now() reads it.
 */
#ifndef SESSILE_H
#define SESSILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SESSILE_ID_LENGTH 32u     /* characters of an id */
#define SESSILE_DIGEST_SIZE 32u   /* bytes */
#define SESSILE_NONCE_SIZE 32u    /* bytes that a renewal's next id is derived from */
#define SESSILE_KEY_SIZE 64u      /* bytes of a key of ids: one SHA-256 block */
#define SESSILE_KEYS_MAX 8u
#define SESSILE_OWNER_MAX 255u    /* bytes */
#define SESSILE_DEVICE_MAX 1024u  /* bytes */
#define SESSILE_FIELDS_MAX (1u << 20)           /* bytes */
#define SESSILE_TIMEOUT_MAX_MS (400ll * 86400 * 1000)
#define SESSILE_MEMORY_MIN (2ull << 20)
#define SESSILE_CAPACITY_MAX (1ull << 30)
#define SESSILE_PROCESSES_MAX 1024u

/* The result of ignoring one of these is a bug. */
#define SESSILE_CHECKED __attribute__((warn_unused_result))
#define SESSILE_API __attribute__((visibility("default")))

enum sessile_status {
    SESSILE_OK = 0,
    /* Answers about a session; none of them is an error. */
    SESSILE_MISS,        /* the id is unknown */
    SESSILE_EXPIRED,     /* its session is past a deadline: for the caller a miss; sessile_collect() ends it */
    SESSILE_RETIRED,     /* the id was retired moments ago, or belonged to an anonymous session: merely late */
    SESSILE_THEFT,       /* a retired id of an owned session, presented after its grace: sessile_end_theft() */
    SESSILE_GONE,        /* the session that the reference names has ended, or rotated away from it */
    SESSILE_CHANGED,     /* its version is another: read again */
    SESSILE_EXISTS,      /* the id is in use or retired: take another */
    /* Answers about the call. */
    SESSILE_WOULD_BLOCK, /* only with wait_ms 0: nothing was changed, repeat with a wait */
    SESSILE_BUFFER,      /* the buffer is too small: the length that is needed is in the result; nothing was changed */
    SESSILE_INVALID,     /* an argument is outside what this header allows: nothing was changed */
    /* Refusals. */
    SESSILE_FULL,        /* no room for the session, even after all that may be evicted was */
    SESSILE_BUSY,        /* a lock stayed taken for wait_ms by a living process */
    SESSILE_DAMAGED,     /* the record failed its checksum: it was quarantined */
    SESSILE_NO_MEMORY,   /* the system refuses memory that the table was promised, or to this process */
    SESSILE_DETACHED,    /* this process has no access to the table: see sessile_problem() */
    /* Refusals of sessile_open() only. */
    SESSILE_PROCESSES,   /* SESSILE_PROCESSES_MAX processes are attached */
    SESSILE_SYSTEM,      /* a system call failed: errno and its name are in the problem */
    SESSILE_NO_SPACE,    /* the file system cannot hold the table */
    SESSILE_FORMAT,      /* not a table, or a table of another version or layout */
    SESSILE_FOREIGN,     /* the file or its directory belongs to another user, or others may write to it */
    SESSILE_KEY,         /* none of the given keys is a key of this table */
    SESSILE_BOOT,        /* the table was made in another time namespace */
    SESSILE_PLACE,       /* a network file system, a symbolic link, not a regular file */
    SESSILE_ABSENT,      /* there is no such table, and none was to be made */
    SESSILE_STATUS_COUNT
};

/* ---- opening ---- */

struct sessile_policy {            /* this process's own; 0 means none where it says so */
    int64_t owned_idle_ms, owned_absolute_ms;
    int64_t anonymous_idle_ms, anonymous_absolute_ms;
    uint32_t sessions_per_owner;   /* cap at log-in; 0: none */
    uint32_t fields_max;           /* largest size of a session's fields in bytes, at most SESSILE_FIELDS_MAX */
};

struct sessile_options {
    const char *path;              /* NULL: a table of this process and the children that it forks */
    bool must_exist;               /* with path: attach only */
    uint64_t capacity;             /* sessions */
    uint64_t memory;               /* bytes of the pages that hold records and owners' references */
    double anonymous_share;        /* in (0, 1]: of capacity and of memory */
    const uint8_t (*keys)[SESSILE_KEY_SIZE]; /* the first makes new ids; copied; key_count 0: no ids can be looked up */
    unsigned key_count;
    struct sessile_policy policy;
};

struct sessile_problem {           /* why sessile_open() or a reservation failed */
    int error;                     /* errno, or 0 */
    const char *operation;         /* a static string such as "fallocate", or NULL */
    uint64_t wanted, found;        /* format, uid, mode, bytes …, by status */
};

struct sessile;

/* Options that make no sense answer SESSILE_INVALID; problem->wanted is then the least memory that would do, and
 * problem->found, if it is not 0, the most, which is less than what was asked for.
 * On success the caller owns *table and ends it with sessile_close(). May take milliseconds. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_open(const struct sessile_options *options, struct sessile **table,
                                                             struct sessile_problem *problem);
/* Gives up this process's part. A table without a path is gone with its last process. NULL is allowed. */
SESSILE_API void sessile_close(struct sessile *table);
/* For a table with a path: whether its file has no name any more, and this is the first call in any process to find that.
 * Who is attached goes on with it; who opens the path from then on has another table. One system call. */
SESSILE_API bool sessile_file_lost(struct sessile *table);
SESSILE_API void sessile_set_policy(struct sessile *table, const struct sessile_policy *policy);
SESSILE_API struct sessile_problem sessile_problem(const struct sessile *table);

struct sessile_facts {             /* what the table is, fixed when it was made */
    uint64_t capacity, memory;
    double anonymous_share;
    uint32_t shards, unit_size;
    bool created_here;             /* this very process made it */
    uint8_t uuid[16];
    uint64_t mapping_size, index_size;  /* bytes of address space; of the index within it */
};
SESSILE_API struct sessile_facts sessile_facts(const struct sessile *table);

SESSILE_API int64_t sessile_now(const struct sessile *table);
/* Moves the clock of the whole table forward, for tests. */
SESSILE_API void sessile_advance(struct sessile *table, int64_t milliseconds);

/* ---- what goes in and out ---- */

struct sessile_call {
    int64_t wait_ms;               /* 0: never wait */
    struct sessile_sink *sink;     /* where ended sessions are reported; NULL: nowhere */
};

/* Reports of sessions that ended in a call, appended to memory of the caller. A record is copied before
 * it is wiped. When a report does not fit, a collector leaves the session for a later call; an eviction, a revocation and
 * a removal go on and report without owner and fields (`cut`). */
struct sessile_sink {
    uint8_t *buffer;               /* 8-byte aligned */
    size_t capacity, used;
};

enum sessile_reason {
    SESSILE_LOGOUT, SESSILE_DESTROYED, SESSILE_IDLE, SESSILE_ABSOLUTE, SESSILE_EVICTED, SESSILE_REVOKED, SESSILE_STOLEN,
    SESSILE_REASON_COUNT
};

struct sessile_report {            /* in the sink, 8-byte aligned, followed by owner and fields */
    uint32_t size;                 /* of the whole report, a multiple of 8 */
    uint8_t reason;
    uint8_t cut;                   /* owner and fields did not fit */
    uint16_t owner_length;
    uint32_t fields_length;
    uint32_t reserved;
    uint64_t handle;
    int64_t at_ms;
};

#define SESSILE_KEEP (-1)          /* timeouts: as it is stored (a new session: the default) */
#define SESSILE_DEFAULT 0          /* timeouts: the policy's, and marked as such */

struct sessile_content {           /* a session to be stored */
    const uint8_t *owner;          /* NULL: anonymous */
    uint32_t owner_length;
    const uint8_t *device;         /* NULL: none */
    uint32_t device_length;
    const uint8_t *fields;
    uint32_t fields_length;
    int64_t idle_ms, absolute_ms;  /* timeouts, or SESSILE_KEEP, SESSILE_DEFAULT; absolute counts from creation or log-in */
};

enum {                             /* session.flags */
    SESSILE_OWNED = 1, SESSILE_PROVEN = 2, /* its own id was presented since it was given */
    SESSILE_FORWARDED = 4,         /* found through an id that forwards: the id is the one derived from `nonce` */
    SESSILE_IDLE_IS_DEFAULT = 8, SESSILE_ABSOLUTE_IS_DEFAULT = 16,
    SESSILE_FIRST = 32             /* this call was the first to present its own id */
};

struct sessile_session {           /* facts of one session, as stored at `now_ms` */
    uint8_t digest[SESSILE_DIGEST_SIZE];
    uint8_t nonce[SESSILE_NONCE_SIZE]; /* only with SESSILE_FORWARDED */
    uint64_t handle;
    int64_t now_ms, created_ms, authenticated_ms; /* authenticated_ms 0: never */
    int64_t issued_ms;             /* when its id was given, to the second */
    int64_t last_used_ms;
    int64_t idle_deadline_ms, absolute_deadline_ms; /* as this process's policy sees them */
    int64_t idle_ms;               /* the stored idle timeout */
    uint32_t version, flags;
    uint32_t owner_length, device_length, fields_length; /* in the buffer: owner, device, fields, without gaps */
    uint16_t rotations;            /* of this handle, modulo 8192 */
    uint16_t rotates;              /* those by SESSILE_ROTATE, modulo 65536 */
    uint8_t key_index;             /* which of the keys found it; 255: unknown (with SESSILE_FORWARDED always: the one whose
                                      derived id has this digest) */
};

struct sessile_reference {         /* names a session that was read or made; not an id */
    uint8_t digest[SESSILE_DIGEST_SIZE];
    uint64_t handle;
    uint16_t rotates;
    const uint8_t *owner;          /* NULL: anonymous */
    uint32_t owner_length;
};

/* The digest of an id under one of the keys given at opening. False: no such key, or not 32 base64url characters. */
SESSILE_API bool sessile_digest(const struct sessile *table, unsigned key_index, const char *id, size_t id_length,
                                uint8_t digest[SESSILE_DIGEST_SIZE]);

/* ---- one session ---- */

enum { SESSILE_TOUCH = 1,          /* renews the idle deadline */
       SESSILE_PRESENT = 2 };      /* the id came from a client: it proves the id, starts a drain, may reveal a theft */

/* Finds by id. `id` is checked: not 32 base64url characters is SESSILE_MISS at the cost of no hash. One hash a key.
 * OK, MISS, EXPIRED, RETIRED, THEFT, BUFFER, DAMAGED, WOULD_BLOCK, BUSY, DETACHED. `buffer` receives owner, device and
 * fields; on BUFFER the lengths in *session say how much is needed. On EXPIRED, RETIRED and THEFT session->digest and
 * session->handle are set. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_load(struct sessile *table, const struct sessile_call *call,
                                                             const char *id, size_t id_length, unsigned flags,
                                                             struct sessile_session *session, uint8_t *buffer, size_t capacity);
/* Finds by reference, following renewals. OK, GONE, EXPIRED, BUFFER, DAMAGED, WOULD_BLOCK, BUSY, DETACHED.
 * `flags`: SESSILE_TOUCH or 0. buffer NULL with capacity 0: facts only, never BUFFER. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_read(struct sessile *table, const struct sessile_call *call,
                                                             const struct sessile_reference *reference, unsigned flags,
                                                             struct sessile_session *session, uint8_t *buffer, size_t capacity);
/* Stores a new session under a new id; with an owner: logged in. OK (facts in *session), EXISTS, FULL, INVALID,
 * WOULD_BLOCK, BUSY, NO_MEMORY, DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_create(struct sessile *table, const struct sessile_call *call,
                                                               const char id[SESSILE_ID_LENGTH],
                                                               const struct sessile_content *content,
                                                               struct sessile_session *session);
/* Replaces the fields (and timeouts, unless SESSILE_KEEP) if the stored version is still `version`; owner and device
 * stay and are not read from `content`. Follows renewals. OK (new facts), CHANGED, GONE, EXPIRED, FULL (old one intact),
 * INVALID, WOULD_BLOCK, BUSY, NO_MEMORY, DETACHED. `flags`: SESSILE_TOUCH or 0. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_update(struct sessile *table, const struct sessile_call *call,
                                                               const struct sessile_reference *reference, uint32_t version,
                                                               unsigned flags, const struct sessile_content *content,
                                                               struct sessile_session *session);

enum sessile_rotation {
    SESSILE_RENEW,                 /* old id forwards; needs an owner, a proven id and a nonce; keeps all but the id */
    SESSILE_ROTATE,                /* old id dead at once; handle, owner, device, times kept; fields from `content` */
    SESSILE_LOGIN                  /* old id dead at once; new handle; everything from `content`; deadlines start anew */
};
/* Gives a session a new id, by one commit. `content`: NULL with RENEW. `nonce`: NULL except with RENEW. OK (facts of the
 * child), CHANGED (also when it was renewed meanwhile), GONE, EXPIRED, EXISTS, FULL, INVALID, BUSY, NO_MEMORY, DETACHED.
 * Needs call->wait_ms > 0. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_rotate(struct sessile *table, const struct sessile_call *call,
                                                               const struct sessile_reference *reference, uint32_t version,
                                                               enum sessile_rotation how, const char id[SESSILE_ID_LENGTH],
                                                               const uint8_t *nonce, const struct sessile_content *content,
                                                               struct sessile_session *session);
/* Ends a session; follows renewals. The report in the sink carries `reason`. OK, GONE, WOULD_BLOCK, BUSY, DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_remove(struct sessile *table, const struct sessile_call *call,
                                                               const struct sessile_reference *reference,
                                                               enum sessile_reason reason);
/* The same, only while its version is `version`: else CHANGED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_remove_version(struct sessile *table,
                                                                       const struct sessile_call *call,
                                                                       const struct sessile_reference *reference,
                                                                       uint32_t version, enum sessile_reason reason);
/* Ends the session with this digest if it is past a deadline (after SESSILE_EXPIRED), with a report. OK, MISS (somebody
 * else did), WOULD_BLOCK, BUSY, DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_collect(struct sessile *table, const struct sessile_call *call,
                                                                const uint8_t digest[SESSILE_DIGEST_SIZE]);
/* Ends the session that the retired id with this digest led to (after SESSILE_THEFT). *handle: the session's. OK (it was
 * alive), GONE, BUSY, DETACHED. Needs call->wait_ms > 0. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_end_theft(struct sessile *table, const struct sessile_call *call,
                                                                  const uint8_t digest[SESSILE_DIGEST_SIZE], uint64_t *handle);

/* ---- owners and all; these need call->wait_ms > 0, hold no shard's lock from one session to the next ---- */

/* Lists an owner's sessions: into `buffer` goes, for each, a struct sessile_session, its owner and its device, the
 * whole padded to 8 bytes. *count sessions, *length bytes (with BUFFER: what is needed). OK, BUFFER, BUSY, DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_owner_list(struct sessile *table, const struct sessile_call *call,
                                                                   const uint8_t *owner, uint32_t owner_length,
                                                                   uint8_t *buffer, size_t capacity, uint64_t *count,
                                                                   size_t *length);
/* Ends all sessions of an owner; except the one with handle `keep` if that is not 0; or only the one with handle `only`
 * if that is not 0. *count: how many. Cost grows with that owner's sessions only. OK, BUSY, DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_owner_revoke(struct sessile *table, const struct sessile_call *call,
                                                                     const uint8_t *owner, uint32_t owner_length,
                                                                     uint64_t keep, uint64_t only, uint64_t *count);
/* Ends every session, in one store. *count: how many there were (a sum over the shards at about that time). OK, DETACHED
 * in a forked child of a private home. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_revoke_all(struct sessile *table, uint64_t *count);
/* Frees the memory of at most `budget` sessions that are past their deadlines. *count: how many. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_sweep(struct sessile *table, const struct sessile_call *call,
                                                              uint64_t budget, uint64_t *count);
/* Lists the sessions of one shard (0 … facts.shards - 1) as sessile_owner_list() does. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_scan(struct sessile *table, const struct sessile_call *call,
                                                             uint32_t shard, uint8_t *buffer, size_t capacity,
                                                             uint64_t *count, size_t *length);

struct sessile_stats {
    uint64_t sessions, anonymous, owned, capacity;
    uint64_t memory_used, memory;  /* bytes of slots that hold something; of pages */
    uint64_t loads, misses, malformed, created, expired, evicted, revoked, full, recoveries, quarantined;
    uint64_t memory_lent;          /* bytes of pages lent to shards */
    uint32_t processes;            /* attached now */
};
SESSILE_API void sessile_stats(struct sessile *table, struct sessile_stats *stats);

/* Checks every numbered invariant of every shard, owner stripe and of the table, one lock at a time; `report` gets one
 * line a finding. *findings: how many. With `repair` a shard with findings is recovered and a damaged record quarantined. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_check(struct sessile *table, const struct sessile_call *call,
                                                              bool repair, void (*report)(void *context, const char *finding),
                                                              void *context, uint64_t *findings);
/* What this process repaired since it last asked: shards rebuilt, damaged records taken out. */
SESSILE_API void sessile_repairs(struct sessile *table, uint32_t *recovered, uint32_t *quarantined);
/* A name for a status, such as "SESSILE_FULL"; never NULL. */
SESSILE_API const char *sessile_status_name(enum sessile_status status);

/* ---- persistence: what an image on disk is made from and read into ----
 *
 * A record in an image is the first 72 bytes of the record in memory, created_s, authenticated_s, issued_s, and the payload
 * (record.h), without gaps or padding: its lengths say how long it is, its commit word carries its checksum.
 *
 * An image is taken while the table works: marks of all shards first, then shard by shard (any number of calls each), then
 * the children that the notes name. What changes meanwhile is in it in one form or the other; a session that gets a new id
 * meanwhile is in it under one of them at least, and the notes tell the reader which one holds. */

#define SESSILE_IMAGE_HEADER 84u   /* bytes of a record in an image before its payload */
#define SESSILE_IMAGE_RECORD_MAX (SESSILE_IMAGE_HEADER + SESSILE_FIELDS_MAX + SESSILE_DEVICE_MAX + SESSILE_OWNER_MAX + 34u)

enum sessile_note_kind {
    SESSILE_NOTE_CHILD = 1,        /* a session may have this digest by now */
    SESSILE_NOTE_NEWER = 2         /* a session got its id since: one with this digest, or with fewer rotations, is older */
};

struct sessile_note {
    uint8_t digest[SESSILE_DIGEST_SIZE]; /* to be copied by sessile_export_digest() at the end; NEWER: or zeroes */
    uint64_t handle;               /* NEWER */
    uint32_t rotations;            /* NEWER, modulo 8192 */
    uint32_t kind;
};

struct sessile_export {            /* the copy of one shard under way */
    uint32_t shard, mark;          /* set by the caller, the rest zeroed before the first call: mark of this shard */
    int64_t since_ms;              /* set by the caller: the table's clock when the marks were taken */
    bool done;                     /* nothing more to come */
    uint32_t epoch;                /* of all records in the buffer */
    uint32_t records, notes;       /* in the buffers after this call */
    size_t length;                 /* bytes of the records */
    uint32_t pass, since, started, unit, slot, slot_size; /* where it stands */
};

/* A mark for each of facts.shards shards: what is written later is newer. OK, BUSY, DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_export_marks(struct sessile *table, const struct sessile_call *call,
                                                                     uint32_t *marks);
/* Copies records of a shard until the buffer or the notes are full or the shard is done; holds its lock for some
 * microseconds at a time. `capacity` at least SESSILE_IMAGE_RECORD_MAX, `notes_capacity` at least 1. Damaged records are
 * left out. OK, INVALID, BUSY (call again, or give up), DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_export(struct sessile *table, const struct sessile_call *call,
                                                               struct sessile_export *export, uint8_t *buffer, size_t capacity,
                                                               struct sessile_note *notes, uint32_t notes_capacity);
/* Copies the session with this digest, and on the way what forwards to it. *length 0: there is none. *note: NEWER for that
 * session, or of kind 0. OK, BUFFER (never with SESSILE_IMAGE_RECORD_MAX plus 16 KiB), BUSY, DETACHED. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_export_digest(struct sessile *table, const struct sessile_call *call,
                                                                      const uint8_t digest[SESSILE_DIGEST_SIZE],
                                                                      uint8_t *buffer, size_t capacity, size_t *length,
                                                                      uint32_t *records, uint32_t *epoch,
                                                                      struct sessile_note *note);

struct sessile_rekey {             /* a new id that a session was given after the image was taken */
    uint64_t handle;
    uint32_t rotations;            /* of the session under that id, modulo 8192 */
    uint32_t how;                  /* SESSILE_RENEW: the parent's id forwards; else it is dead */
    int64_t at_ms;
    uint8_t parent[SESSILE_DIGEST_SIZE], digest[SESSILE_DIGEST_SIZE];
    uint8_t nonce[SESSILE_NONCE_SIZE];
};

struct sessile_rules {             /* arrays sorted by handle, ascending; NULL with a count of 0 */
    const uint64_t *revoked;       /* sessions with these handles are not imported */
    size_t revoked_count;
    const struct sessile_note *newer; /* of kind NEWER, one a handle */
    size_t newer_count;
    const uint8_t (*superseded)[SESSILE_DIGEST_SIZE]; /* sessions with these digests are not imported; sorted as bytes */
    size_t superseded_count;
    const struct sessile_rekey *rekeys; /* one a handle */
    size_t rekey_count;
    const uint64_t *watched;       /* seen[i] becomes 1 when a session with handle watched[i] is met, imported or not */
    uint8_t *seen;
    size_t watched_count;
};

struct sessile_import_counts {     /* counted up */
    uint64_t imported;             /* sessions */
    uint64_t forwarding;           /* retired ids that forward */
    uint64_t expired, revoked, superseded;
    uint64_t impossible;           /* created in the future, or with a lifetime above 400 days */
    uint64_t known;                /* the digest is in the table already */
};

/* Stores the records of an image in a fresh table. All of them are verified before the first is stored. OK, DAMAGED
 * (nothing was stored), FULL (some were), INVALID, NO_MEMORY, BUSY, DETACHED. Needs call->wait_ms > 0. */
SESSILE_API SESSILE_CHECKED enum sessile_status sessile_import(struct sessile *table, const struct sessile_call *call,
                                                               const uint8_t *image, size_t length,
                                                               const struct sessile_rules *rules,
                                                               struct sessile_import_counts *counts);
/* CRC32C, continued from `sum`; 0 starts one. */
SESSILE_API uint32_t sessile_checksum(uint32_t sum, const void *data, size_t length);
/* Moves a fresh table's clock forward to `now_ms`, so that times of an image go on in it; never back. */
SESSILE_API void sessile_restore_clock(struct sessile *table, int64_t now_ms);
/* The count of revoke_all. A fresh table's can be raised to that of an image; the table must be empty. */
SESSILE_API uint32_t sessile_epoch(const struct sessile *table);
SESSILE_API void sessile_restore_epoch(struct sessile *table, uint32_t epoch);

/* The one writer of images among all processes of the table. True: it is this process, until it releases it or dies. */
SESSILE_API bool sessile_writer_claim(struct sessile *table);
SESSILE_API void sessile_writer_release(struct sessile *table);

struct sessile_generation {
    uint64_t published;            /* of the image under way or complete; 0: the table was never restored into or from */
    uint64_t complete;             /* of the last image that is complete on disk; 0: none */
    int64_t complete_ms;           /* the table's clock when it was begun */
};
SESSILE_API struct sessile_generation sessile_generation(const struct sessile *table);
/* Only the writer, or who restores. Each stores one number, after all that went before in this thread. */
SESSILE_API void sessile_publish(struct sessile *table, uint64_t generation);
SESSILE_API void sessile_complete(struct sessile *table, uint64_t generation, int64_t begun_ms);

#endif
