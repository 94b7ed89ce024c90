-- A tenant proves that it has the identities of the keys it wants its snapshots encrypted to: for each a random word was
-- encrypted, of which only the hash is here until it is answered or expires.
CREATE TABLE recipient_challenges (
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    -- An age recipient.
    recipient  TEXT NOT NULL,
    -- SHA-256 of the word, in hexadecimal.
    token_hash TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, recipient)
);
CREATE INDEX recipient_challenges_by_expiry ON recipient_challenges (expires_at);
