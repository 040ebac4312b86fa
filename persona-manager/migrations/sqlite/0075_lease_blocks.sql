-- Of blocks that never overlap only the last one that begins before the end of another can overlap it: one look instead of one
-- at each block of the address.
DROP TRIGGER lease_blocks_never_overlap;
CREATE TRIGGER lease_blocks_never_overlap BEFORE INSERT ON lease_blocks
WHEN (
    SELECT held.last_port FROM lease_blocks AS held
    WHERE held.address = NEW.address AND held.first_port <= NEW.last_port
    ORDER BY held.first_port DESC LIMIT 1
) >= NEW.first_port
BEGIN SELECT RAISE(ABORT, 'a port block would be leased twice'); END;
