import java.io.FileWriter;
import java.io.RandomAccessFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Threads that allocate, compute and write files, while the garbage collector and the compiler run.
 * It ends when "go.1" appears.
 */
class Work extends Thread {
    static volatile boolean stop;
    static final AtomicLong total = new AtomicLong();
    static volatile Throwable failure;
    final int who;
    long turns;

    Work(int who) {
        this.who = who;
    }

    /** One turn builds a table and adds it up again. */
    static long turn(long value) {
        Map<Long, String> table = new HashMap<>();
        long sum = 0, again = 0;
        for (int n = 0; n < 200; n++) {
            value = value * 6364136223846793005L + 1442695040888963407L;
            table.put(value, Long.toString(value));
            sum += value;
        }
        for (String text : table.values())
            again += Long.parseLong(text);
        if (sum != again)
            throw new IllegalStateException("sum " + sum + ", not " + again);
        return value;
    }

    @Override
    public void run() {
        try (FileWriter out = new FileWriter("file." + who)) {
            for (long value = who; !stop; turns++) {
                value = turn(value);
                out.write(value + "\n");
                total.incrementAndGet();
                Thread.sleep(1);
            }
        } catch (Throwable error) {
            failure = error;
        }
    }

    public static void main(String[] args) throws Throwable {
        List<Work> all = new ArrayList<>();
        for (int who = 0; who < 4; who++)
            all.add(new Work(who));
        all.forEach(Thread::start);
        System.out.println("ready 1");
        try (RandomAccessFile count = new RandomAccessFile("count", "rw")) {
            while (!Files.exists(Path.of("go.1")) && failure == null) {
                count.seek(0);
                count.writeBytes(String.format("%15d", total.get()));
                Thread.sleep(2);
            }
        }
        stop = true;
        long turns = 0;
        for (Work work : all) {
            work.join();
            turns += work.turns;
            List<String> lines = Files.readAllLines(Path.of("file." + work.who));
            long value = work.who;
            for (int n = 0; n < work.turns; n++) {
                value = turn(value);
                if (Long.parseLong(lines.get(n)) != value)
                    throw new IllegalStateException("line " + n + " of thread " + work.who);
            }
        }
        if (failure != null)
            throw failure;
        if (turns != total.get())
            throw new IllegalStateException(turns + " turns, not " + total);
        System.out.println("ok");
    }
}
