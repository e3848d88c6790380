# The contract of the table, csrc/sessile.h, as Cython sees it: what the binding uses of it, in the header's order.
# Cython takes sizes and layouts from the header; only the names and kinds of types stand here.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "sessile.h" nogil:
    """
    typedef const uint8_t (*sessile_keys)[SESSILE_KEY_SIZE];
    typedef const uint8_t (*sessile_digests)[SESSILE_DIGEST_SIZE];
    """
    ctypedef void *sessile_keys
    ctypedef void *sessile_digests

    long long SESSILE_KEYS_MAX, SESSILE_OWNER_MAX, SESSILE_DEVICE_MAX, SESSILE_FIELDS_MAX
    long long SESSILE_TIMEOUT_MAX_MS, SESSILE_CAPACITY_MAX, SESSILE_PROCESSES_MAX

    enum:
        SESSILE_ID_LENGTH
        SESSILE_DIGEST_SIZE
        SESSILE_NONCE_SIZE
        SESSILE_KEY_SIZE
        SESSILE_KEEP
        SESSILE_DEFAULT
        SESSILE_OWNED
        SESSILE_PROVEN
        SESSILE_FORWARDED
        SESSILE_TOUCH
        SESSILE_PRESENT

    enum sessile_status:
        SESSILE_OK
        SESSILE_MISS
        SESSILE_EXPIRED
        SESSILE_RETIRED
        SESSILE_THEFT
        SESSILE_GONE
        SESSILE_CHANGED
        SESSILE_EXISTS
        SESSILE_WOULD_BLOCK
        SESSILE_BUFFER
        SESSILE_INVALID
        SESSILE_FULL
        SESSILE_BUSY
        SESSILE_DAMAGED
        SESSILE_NO_MEMORY
        SESSILE_DETACHED
        SESSILE_PROCESSES
        SESSILE_SYSTEM
        SESSILE_NO_SPACE
        SESSILE_FORMAT
        SESSILE_FOREIGN
        SESSILE_KEY
        SESSILE_BOOT
        SESSILE_PLACE
        SESSILE_ABSENT
        SESSILE_STATUS_COUNT

    enum sessile_reason:
        SESSILE_LOGOUT
        SESSILE_DESTROYED
        SESSILE_IDLE
        SESSILE_ABSOLUTE
        SESSILE_EVICTED
        SESSILE_REVOKED
        SESSILE_STOLEN
        SESSILE_REASON_COUNT

    enum sessile_rotation:
        SESSILE_RENEW
        SESSILE_ROTATE
        SESSILE_LOGIN

    struct sessile_policy:
        int64_t owned_idle_ms
        int64_t owned_absolute_ms
        int64_t anonymous_idle_ms
        int64_t anonymous_absolute_ms
        uint32_t sessions_per_owner
        uint32_t fields_max

    struct sessile_options:
        const char *path
        bint must_exist
        uint64_t capacity
        uint64_t memory
        double anonymous_share
        sessile_keys keys
        unsigned key_count
        sessile_policy policy

    struct sessile_problem:
        int error
        const char *operation
        uint64_t wanted
        uint64_t found

    struct sessile:
        pass

    struct sessile_facts:
        uint64_t capacity
        uint64_t memory
        double anonymous_share
        uint32_t shards
        bint created_here
        uint8_t uuid[16]

    struct sessile_sink:
        uint8_t *buffer
        size_t capacity
        size_t used

    struct sessile_call:
        int64_t wait_ms
        sessile_sink *sink

    struct sessile_report:
        uint32_t size
        uint8_t reason
        uint8_t cut
        uint16_t owner_length
        uint32_t fields_length
        uint64_t handle
        int64_t at_ms

    struct sessile_content:
        const uint8_t *owner
        uint32_t owner_length
        const uint8_t *device
        uint32_t device_length
        const uint8_t *fields
        uint32_t fields_length
        int64_t idle_ms
        int64_t absolute_ms

    struct sessile_session:
        uint8_t digest[32]
        uint8_t nonce[32]
        uint64_t handle
        int64_t now_ms
        int64_t created_ms
        int64_t authenticated_ms
        int64_t issued_ms
        int64_t last_used_ms
        int64_t idle_deadline_ms
        int64_t absolute_deadline_ms
        int64_t idle_ms
        uint32_t version
        uint32_t flags
        uint32_t owner_length
        uint32_t device_length
        uint32_t fields_length
        uint16_t rotations
        uint16_t rotates

    struct sessile_reference:
        uint8_t digest[32]
        uint64_t handle
        uint16_t rotates
        const uint8_t *owner
        uint32_t owner_length

    struct sessile_stats:
        uint64_t sessions
        uint64_t anonymous
        uint64_t owned
        uint64_t capacity
        uint64_t memory_used
        uint64_t memory
        uint64_t loads
        uint64_t misses
        uint64_t malformed
        uint64_t created
        uint64_t expired
        uint64_t evicted
        uint64_t revoked
        uint64_t full
        uint64_t recoveries
        uint64_t quarantined
        uint32_t processes

    sessile_status sessile_open(const sessile_options *, sessile **, sessile_problem *)
    void sessile_close(sessile *)
    sessile_problem c_problem "sessile_problem"(const sessile *)
    sessile_facts c_facts "sessile_facts"(const sessile *)
    bint sessile_digest(const sessile *, unsigned, const char *, size_t, uint8_t *)
    bint sessile_file_lost(sessile *)
    int64_t sessile_now(const sessile *)
    void sessile_advance(sessile *, int64_t)
    sessile_status sessile_load(sessile *, const sessile_call *, const char *, size_t, unsigned, sessile_session *,
                                uint8_t *, size_t)
    sessile_status sessile_read(sessile *, const sessile_call *, const sessile_reference *, unsigned,
                                sessile_session *, uint8_t *, size_t)
    sessile_status sessile_create(sessile *, const sessile_call *, const char *, const sessile_content *,
                                  sessile_session *)
    sessile_status sessile_update(sessile *, const sessile_call *, const sessile_reference *, uint32_t, unsigned,
                                  const sessile_content *, sessile_session *)
    sessile_status sessile_rotate(sessile *, const sessile_call *, const sessile_reference *, uint32_t,
                                  sessile_rotation, const char *, const uint8_t *, const sessile_content *,
                                  sessile_session *)
    sessile_status sessile_remove(sessile *, const sessile_call *, const sessile_reference *, sessile_reason)
    sessile_status sessile_remove_version(sessile *, const sessile_call *, const sessile_reference *, uint32_t,
                                          sessile_reason)
    sessile_status sessile_collect(sessile *, const sessile_call *, const uint8_t *)
    sessile_status sessile_end_theft(sessile *, const sessile_call *, const uint8_t *, uint64_t *)
    sessile_status sessile_owner_list(sessile *, const sessile_call *, const uint8_t *, uint32_t, uint8_t *, size_t,
                                      uint64_t *, size_t *)
    sessile_status sessile_owner_revoke(sessile *, const sessile_call *, const uint8_t *, uint32_t, uint64_t,
                                        uint64_t, uint64_t *)
    sessile_status sessile_revoke_all(sessile *, uint64_t *)
    sessile_status sessile_sweep(sessile *, const sessile_call *, uint64_t, uint64_t *)
    sessile_status sessile_scan(sessile *, const sessile_call *, uint32_t, uint8_t *, size_t, uint64_t *, size_t *)
    void c_stats "sessile_stats"(sessile *, sessile_stats *)
    sessile_status sessile_check(sessile *, const sessile_call *, bint, void (*)(void *, const char *) noexcept,
                                 void *, uint64_t *)
    void sessile_repairs(sessile *, uint32_t *, uint32_t *)
    const char *sessile_status_name(sessile_status)

    enum:
        SESSILE_IMAGE_RECORD_MAX

    struct sessile_note:
        uint32_t kind

    struct sessile_export:
        uint32_t shard
        uint32_t mark
        int64_t since_ms
        bint done
        uint32_t epoch
        uint32_t records
        uint32_t notes
        size_t length

    struct sessile_rekey:
        pass

    struct sessile_rules:
        const uint64_t *revoked
        size_t revoked_count
        const sessile_note *newer
        size_t newer_count
        sessile_digests superseded
        size_t superseded_count
        const sessile_rekey *rekeys
        size_t rekey_count
        const uint64_t *watched
        uint8_t *seen
        size_t watched_count

    struct sessile_import_counts:
        uint64_t imported
        uint64_t forwarding
        uint64_t expired
        uint64_t revoked
        uint64_t superseded
        uint64_t impossible
        uint64_t known

    struct sessile_generation:
        uint64_t published
        uint64_t complete
        int64_t complete_ms

    sessile_status sessile_export_marks(sessile *, const sessile_call *, uint32_t *)
    sessile_status c_export "sessile_export"(sessile *, const sessile_call *, sessile_export *, uint8_t *, size_t,
                                             sessile_note *, uint32_t)
    sessile_status sessile_export_digest(sessile *, const sessile_call *, const uint8_t *, uint8_t *, size_t, size_t *,
                                         uint32_t *, uint32_t *, sessile_note *)
    sessile_status sessile_import(sessile *, const sessile_call *, const uint8_t *, size_t, const sessile_rules *,
                                  sessile_import_counts *)
    uint32_t sessile_checksum(uint32_t, const void *, size_t)
    void sessile_restore_clock(sessile *, int64_t)
    uint32_t sessile_epoch(const sessile *)
    void sessile_restore_epoch(sessile *, uint32_t)
    bint sessile_writer_claim(sessile *)
    void sessile_writer_release(sessile *)
    sessile_generation c_generation "sessile_generation"(const sessile *)
    void sessile_publish(sessile *, uint64_t)
    void sessile_complete(sessile *, uint64_t, int64_t)
